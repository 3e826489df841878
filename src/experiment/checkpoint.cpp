// experiment/checkpoint.cpp: checkpoints as HDF5 files, and the names in an output folder.
#include "fedit/experiment/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "fedit/core/error.h"
#include "fedit/io/hdf5_image.h"

namespace fedit {

namespace fs = std::filesystem;

namespace {

std::string round_name(std::int64_t rounds_done) {
    return fmt::format("round_{:06}", rounds_done);
}

void write_layout(Hdf5Writer& writer, const Layout& layout) {
    std::vector<std::string> names;
    std::vector<std::int64_t> parts, rows, cols;
    std::vector<double> scales;
    for (const Module& module : layout.modules) {
        for (const Span& span : module.spans) {
            names.push_back(module.name);
            parts.push_back(static_cast<std::int64_t>(span.part));
            rows.push_back(span.rows);
            cols.push_back(span.cols);
            scales.push_back(module.scale);
        }
    }
    const auto as_span = [](const auto& values) { return std::span(values); };
    writer.column("/layout/module", as_span(std::as_const(names)),
                  {"1", "The span's linear layer, or tensor of the base"});
    writer.column(
        "/layout/part", as_span(std::as_const(parts)),
        {"1", "0: lora_a (r x in), 1: lora_b (out x r), 2: dense (a tensor of the base)"});
    writer.column("/layout/rows", as_span(std::as_const(rows)),
                  {"floats", "Spans lie end to end in /state/x, row major"});
    writer.column("/layout/cols", as_span(std::as_const(cols)), {"floats", "Columns of the span"});
    writer.column("/layout/scale", as_span(std::as_const(scales)),
                  {"1", "Of its layer's delta W = scale B A"});
}

[[noreturn]] void refuse(const std::string& source, std::string what) {
    throw InputError(
        {.what = std::move(what), .where = source, .remedy = "use another checkpoint of this run"});
}

Layout read_layout(const Hdf5Reader& reader) {
    const auto names = reader.strings("/layout/module");
    const auto parts = reader.ints("/layout/part");
    const auto rows = reader.ints("/layout/rows");
    const auto cols = reader.ints("/layout/cols");
    const auto scales = reader.doubles("/layout/scale");
    if (parts.size() != names.size() || rows.size() != names.size() ||
        cols.size() != names.size() || scales.size() != names.size()) {
        refuse(reader.source(), "the layout's columns differ in length");
    }
    Layout layout;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (parts[i] < 0 || parts[i] > static_cast<std::int64_t>(Part::dense) || rows[i] < 1 ||
            cols[i] < 1) {
            refuse(reader.source(), "the layout holds an impossible span of " + names[i]);
        }
        if (layout.modules.empty() || layout.modules.back().name != names[i]) {
            layout.modules.push_back({names[i], {}, scales[i]});
        }
        layout.modules.back().spans.push_back(
            {static_cast<Part>(parts[i]), layout.size, rows[i], cols[i]});
        layout.size += rows[i] * cols[i];
    }
    return layout;
}

/// Two columns: what a pattern matches, and the value there.
template <class Value>
void write_patterns(Hdf5Writer& writer, const std::string& group,
                    const std::vector<std::pair<std::string, Value>>& entries) {
    std::vector<std::string> patterns;
    std::vector<double> values;
    for (const auto& [pattern, value] : entries) {
        patterns.push_back(pattern);
        values.push_back(value);
    }
    writer.column(group + "/pattern", std::span<const std::string>(patterns),
                  {"1", "Regular expression of module names; the first that matches counts"});
    writer.column(group + "/value", std::span<const double>(values), {"1", "Rank or alpha there"});
}

template <class Value>
void read_patterns(const Hdf5Reader& reader, const std::string& group,
                   std::vector<std::pair<std::string, Value>>& entries) {
    const auto patterns = reader.strings(group + "/pattern");
    const auto values = reader.doubles(group + "/value");
    if (patterns.size() != values.size()) refuse(reader.source(), group + " differs in length");
    for (std::size_t i = 0; i < patterns.size(); ++i) {
        entries.emplace_back(patterns[i], static_cast<Value>(values[i]));
    }
}

}  // namespace

std::vector<std::byte> Checkpoint::encode() const {
    Hdf5Writer writer;
    log.write(writer);
    writer.attribute("/state", "rounds_done", rounds_done);
    writer.column("/state/x", std::span<const float>(x),
                  {"1", "The global adapter (or what trains in the base), as /layout says"});
    write_layout(writer, layout);
    writer.attribute("/lora", "r", std::int64_t{lora.r});
    writer.attribute("/lora", "alpha", lora.alpha);
    writer.attribute("/lora", "dropout", lora.dropout);
    writer.attribute("/lora", "use_rslora", std::int64_t{lora.use_rslora});
    writer.attribute("/lora", "target_pattern", lora.target_pattern);
    write_patterns(writer, "/lora/rank_pattern", lora.rank_pattern);
    write_patterns(writer, "/lora/alpha_pattern", lora.alpha_pattern);
    writer.column("/lora/target_modules", std::span<const std::string>(lora.target_modules),
                  {"1", "Linear layers with an adapter"});
    return writer.finish(FileKind::checkpoint);
}

Checkpoint Checkpoint::read(const fs::path& path) {
    return decode(read_file(path), path.string());
}

Checkpoint Checkpoint::decode(std::vector<std::byte> file, const std::string& source) {
    const Hdf5Reader reader(std::move(file), FileKind::checkpoint, source);
    Checkpoint checkpoint;
    checkpoint.log = RunLog::read(reader);
    checkpoint.rounds_done = reader.int_attribute("/state", "rounds_done");
    checkpoint.x = reader.floats("/state/x");
    checkpoint.layout = read_layout(reader);
    checkpoint.lora.r = static_cast<int>(reader.int_attribute("/lora", "r"));
    checkpoint.lora.alpha = reader.double_attribute("/lora", "alpha");
    checkpoint.lora.dropout = reader.double_attribute("/lora", "dropout");
    checkpoint.lora.use_rslora = reader.int_attribute("/lora", "use_rslora") != 0;
    checkpoint.lora.target_pattern = reader.text_attribute("/lora", "target_pattern");
    read_patterns(reader, "/lora/rank_pattern", checkpoint.lora.rank_pattern);
    read_patterns(reader, "/lora/alpha_pattern", checkpoint.lora.alpha_pattern);
    checkpoint.lora.target_modules = reader.strings("/lora/target_modules");
    if (std::ssize(checkpoint.x) != checkpoint.layout.size) {
        refuse(reader.source(), fmt::format("the adapter has {} floats, its layout {}",
                                            checkpoint.x.size(), checkpoint.layout.size));
    }
    return checkpoint;
}

fs::path RunFolder::checkpoint(std::int64_t rounds_done) const {
    return checkpoints() / (round_name(rounds_done) + ".h5");
}
fs::path RunFolder::result_of(std::int64_t rounds_done) const {
    return results() / round_name(rounds_done);
}
fs::path RunFolder::clients(std::int64_t rounds_done) const {
    return state() / round_name(rounds_done);
}

std::optional<std::int64_t> round_of(const fs::path& path) {
    const std::string name = path.stem().string();
    constexpr std::string_view prefix = "round_";
    if (!name.starts_with(prefix)) return std::nullopt;
    std::int64_t round = 0;
    const char* end = name.data() + name.size();
    const auto [last, error] = std::from_chars(name.data() + prefix.size(), end, round);
    if (error != std::errc{} || last != end || round < 0) return std::nullopt;
    return round;
}

std::vector<std::int64_t> rounds_in(const fs::path& folder) {
    std::vector<std::int64_t> rounds;
    if (!fs::is_directory(folder)) return rounds;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        if (const auto round = round_of(entry.path())) rounds.push_back(*round);
    }
    std::sort(rounds.begin(), rounds.end());
    return rounds;
}

std::optional<fs::path> newest_checkpoint(const RunFolder& folder, std::vector<fs::path>& damaged) {
    const std::vector<std::int64_t> rounds = rounds_in(folder.checkpoints());
    for (auto round = rounds.rbegin(); round != rounds.rend(); ++round) {
        fs::path path = folder.checkpoint(*round);
        if (is_intact(path, FileKind::checkpoint)) return path;
        damaged.push_back(std::move(path));
    }
    return std::nullopt;
}

void forget_clients(const RunFolder& folder, std::int64_t rounds_done) {
    std::int64_t first_needed = rounds_done;
    if (folder.committed_clients == CommittedClients::kept) {
        const std::vector<std::int64_t> kept = rounds_in(folder.checkpoints());
        first_needed = (kept.empty() ? rounds_done : kept.front()) - 1;
    }
    for (const std::int64_t round : rounds_in(folder.state())) {
        if (round < first_needed) fs::remove_all(folder.clients(round));
    }
}

void cut_after(const RunFolder& folder, std::int64_t rounds_done) {
    for (const std::int64_t round : rounds_in(folder.checkpoints())) {
        if (round > rounds_done) fs::remove(folder.checkpoint(round));
    }
    for (const std::int64_t round : rounds_in(folder.results())) {
        if (round > rounds_done) fs::remove_all(folder.result_of(round));
    }
    forget_clients(folder, rounds_done);
}

void prune(const RunFolder& folder, std::int64_t keep) {
    if (keep == 0) return;
    std::vector<std::int64_t> rounds = rounds_in(folder.checkpoints());
    for (std::int64_t i = 0; i + keep < std::ssize(rounds); ++i)
        fs::remove(folder.checkpoint(rounds[i]));
    rounds = rounds_in(folder.results());
    for (std::int64_t i = 0; i + keep < std::ssize(rounds); ++i)
        fs::remove_all(folder.result_of(rounds[i]));
}

}  // namespace fedit
