// experiment/federated_data.cpp: files to encoded records to clients.
#include "fedit/experiment/federated_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "fedit/core/error.h"
#include "fedit/io/sha256.h"

namespace fedit {

namespace fs = std::filesystem;

namespace {

constexpr int default_clients = 10;

void put_records(ByteWriter& out, const EncodedRecords& records) {
    out.put_all(std::span(records.tokens)).put_all(std::span(records.labels));
    out.put_all(std::span(records.begin)).put_all(std::span(records.targets));
    out.put_all(std::span(records.category));
    out.put(static_cast<std::uint64_t>(records.categories.size()));
    for (const std::string& name : records.categories) out.put(std::string_view(name));
}

std::vector<std::string> get_names(ByteReader& in) {
    std::vector<std::string> names(in.get<std::uint64_t>());
    for (std::string& name : names) name = in.get_text();
    return names;
}

EncodedRecords get_records(ByteReader& in) {
    EncodedRecords records;
    records.tokens = in.get_all<std::int32_t>();
    records.labels = in.get_all<std::int32_t>();
    records.begin = in.get_all<std::int64_t>();
    records.targets = in.get_all<std::int64_t>();
    records.category = in.get_all<std::int32_t>();
    records.categories = get_names(in);
    return records;
}

Bytes pack_data(const FederatedData& data, const Config& config) {
    ByteWriter out;
    put_records(out, data.records);
    put_records(out, data.evaluation);
    out.put(static_cast<std::uint64_t>(data.table.partition.records.size()));
    for (const auto& mine : data.table.partition.records) out.put_all(std::span(mine));
    out.put(static_cast<std::uint64_t>(data.table.categories.size()));
    for (const std::string& name : data.table.categories) out.put(std::string_view(name));
    out.put_all(std::span(data.table.client_category)).put_all(std::span(data.trainable));
    for (const std::string* text : {&data.tokenizer, &data.prompt_template, &data.fingerprint}) {
        out.put(std::string_view(*text));
    }
    out.put(config.num_clients).put(std::string_view(config.partition));
    return out.take();
}

FederatedData unpack_data(std::span<const std::byte> bytes, Config& config) {
    ByteReader in(bytes);
    FederatedData data;
    data.records = get_records(in);
    data.evaluation = get_records(in);
    data.table.partition.records.resize(in.get<std::uint64_t>());
    for (auto& mine : data.table.partition.records) mine = in.get_all<std::int64_t>();
    data.table.categories = get_names(in);
    data.table.client_category = in.get_all<std::int64_t>();
    data.trainable = in.get_all<std::int64_t>();
    data.tokenizer = in.get_text();
    data.prompt_template = in.get_text();
    data.fingerprint = in.get_text();
    config.num_clients = in.get<std::int64_t>();
    config.partition = in.get_text();
    return data;
}

/// What the files hold, before it is encoded.
struct RawData {
    std::vector<Record> records, evaluation;
    std::optional<Partition> files;  ///< client files as they lie
};

RawData read_raw(Config& config) {
    RawData raw;
    const bool is_folder = fs::is_directory(config.data);
    if (config.mode == "centralized") {
        config.num_clients = 1;
        config.partition = "iid";
    }
    if (config.partition == "auto") config.partition = is_folder ? "files" : "iid";
    if (config.partition == "files" && !is_folder) {
        throw InputError({.what = "--partition files needs a folder of client files",
                          .where = "--data " + config.data,
                          .remedy = "give a folder with local_training_0.json, ..., or --partition "
                                    "iid, dirichlet or shards"});
    }
    if (is_folder) {
        const bool as_files = config.partition == "files";
        ClientFolder folder = read_client_folder(
            config.data,
            as_files && config.num_clients > 0 ? static_cast<int>(config.num_clients) : -1);
        Partition files;
        for (auto& client : folder.clients) {
            std::vector<std::int64_t> mine(client.size());
            for (auto& index : mine) index = std::ssize(raw.records) + (&index - mine.data());
            files.records.push_back(std::move(mine));
            raw.records.insert(raw.records.end(), std::make_move_iterator(client.begin()),
                               std::make_move_iterator(client.end()));
        }
        raw.evaluation = std::move(folder.test);
        if (as_files) raw.files = std::move(files);
    } else {
        raw.records = read_records(config.data);
    }
    if (!config.eval_data.empty()) raw.evaluation = read_records(config.eval_data);
    if (config.num_clients == 0) {
        config.num_clients = raw.files ? std::ssize(raw.files->records) : default_clients;
    }
    return raw;
}

PartitionConfig partition_config(const Config& config) {
    PartitionConfig partition;
    partition.kind = config.partition == "dirichlet" ? PartitionKind::dirichlet
                     : config.partition == "shards"  ? PartitionKind::shards
                                                     : PartitionKind::iid;
    partition.num_clients = static_cast<int>(config.num_clients);
    partition.alpha = config.alpha;
    partition.min_records = config.min_records;
    partition.shards_per_client = static_cast<int>(config.shards_per_client);
    partition.seed = static_cast<std::uint64_t>(config.seed);
    return partition;
}

void count_clients(FederatedData& data) {
    PartitionTable& table = data.table;
    table.categories = data.records.categories;
    table.client_category.assign(table.partition.records.size() * table.categories.size(), 0);
    for (std::size_t k = 0; k < table.partition.records.size(); ++k) {
        std::int64_t trainable = 0;
        for (const std::int64_t record : table.partition.records[k]) {
            const auto at = static_cast<std::size_t>(record);
            trainable += data.records.targets[at] > 0 ? 1 : 0;
            ++table.client_category[k * table.categories.size() +
                                    static_cast<std::size_t>(data.records.category[at])];
        }
        data.trainable.push_back(trainable);
    }
}

void log_skipped(const FederatedData& data, const Log& log) {
    const auto without = [](const EncodedRecords& records) {
        return std::count(records.targets.begin(), records.targets.end(), 0);
    };
    if (const auto count = without(data.records); count > 0) {
        log.info(
            fmt::format("{} of {} training records have no labelled token (the prompt fills "
                        "--cutoff-len): they train nothing",
                        count, data.records.size()));
    }
    if (const auto count = without(data.evaluation); count > 0) {
        log.info(fmt::format(
            "{} of {} held-out records have no labelled token: they do not count in the loss",
            count, data.evaluation.size()));
    }
    std::string idle;
    for (std::size_t k = 0; k < data.trainable.size(); ++k) {
        if (data.trainable[k] == 0) idle += (idle.empty() ? "" : ", ") + std::to_string(k);
    }
    if (!idle.empty()) log.warning("clients without a trainable record are never sampled: " + idle);
}

FederatedData load_on_root(Config& config, std::int64_t vocab_size, const Log& log) {
    RawData raw = read_raw(config);
    const auto has_text = [](const Record& record) { return !record.tokenised(); };
    const bool needs_tokenizer =
        std::any_of(raw.records.begin(), raw.records.end(), has_text) ||
        std::any_of(raw.evaluation.begin(), raw.evaluation.end(), has_text);
    FederatedData data;
    std::optional<Tokenizer> tokenizer;
    if (needs_tokenizer) {
        tokenizer = Tokenizer::load(config.tokenizer.empty() ? config.model : config.tokenizer);
        data.tokenizer = tokenizer->fingerprint();
    }
    const PromptTemplate prompt = prompt_template(config);
    data.prompt_template = prompt.fingerprint();
    const EncodeOptions options = encode_options(config);
    const Tokenizer* encoder = tokenizer ? &*tokenizer : nullptr;
    data.records = encode_records(raw.records, encoder, prompt, options, vocab_size);
    data.evaluation = encode_records(raw.evaluation, encoder, prompt, options, vocab_size);
    data.table.partition = raw.files
                               ? std::move(*raw.files)
                               : make_partition(partition_config(config), data.records.category,
                                                std::ssize(data.records.categories));
    data.fingerprint = fingerprint(data.records);
    count_clients(data);
    log_skipped(data, log);
    return data;
}

}  // namespace

EncodedRecords FederatedData::client(int k) const {
    return select(records, table.partition.records[static_cast<std::size_t>(k)]);
}

void warn_of_long_records(const EncodedRecords& records, const ModelConfig& model, const Log& log) {
    if (model.rope.type == RopeType::dynamic) return;
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < records.size(); ++i) {
        count += records.length(i) > model.max_positions ? 1 : 0;
    }
    if (count == 0) return;
    log.warning(fmt::format(
        "{} of {} records are longer than the model's max_position_embeddings, {}: it was not made "
        "for their last tokens; --cutoff-len {} cuts them",
        count, records.size(), model.max_positions, model.max_positions));
}

FederatedData load_data(const Communicator& comm, Config& config, std::int64_t vocab_size,
                        const Log& log) {
    Bytes bytes;
    comm.together("read the records", [&] {
        if (comm.rank() == 0) bytes = pack_data(load_on_root(config, vocab_size, log), config);
    });
    comm.broadcast(bytes, 0);
    return unpack_data(bytes, config);
}

}  // namespace fedit
