// model/merged_model.cpp: merges an adapter tensor by tensor and writes the result shard by shard.
#include "fedit/model/merged_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>

#include "fedit/core/error.h"
#include "fedit/io/json.h"

namespace fedit {

namespace fs = std::filesystem;

namespace {

using LazyMember = AtomicFile::LazyMember;

// What a tokenizer and its use in Transformers are kept in.
constexpr std::array companions{"tokenizer.json",
                                "tokenizer.model",
                                "tokenizer_config.json",
                                "added_tokens.json",
                                "special_tokens_map.json",
                                "vocab.json",
                                "merges.txt",
                                "chat_template.jinja",
                                "chat_template.json",
                                "generation_config.json"};

std::size_t elements(const TensorSpec& spec) {
    std::size_t count = 1;
    for (const std::int64_t extent : spec.shape) count *= static_cast<std::size_t>(extent);
    return count;
}

template <class Bits, class Convert>
std::vector<std::byte> encode_as(std::span<const float> values, const Convert& convert) {
    std::vector<std::byte> bytes(values.size() * sizeof(Bits));
    for (std::size_t i = 0; i < values.size(); ++i) {
        const Bits bits = convert(values[i]);
        std::memcpy(bytes.data() + i * sizeof bits, &bits, sizeof bits);
    }
    return bytes;
}

std::vector<std::byte> encode(std::span<const float> values, StoredType type) {
    switch (type) {
        case StoredType::bf16:
            return encode_as<std::uint16_t>(values, float_to_bf16);
        case StoredType::f16:
            return encode_as<std::uint16_t>(values, float_to_f16);
        default:
            return encode_as<float>(values, [](float value) { return value; });
    }
}

/// As encode(), once no value is beyond the type's range.
std::vector<std::byte> encode_checked(std::span<const float> values, StoredType type,
                                      const std::string& name) {
    const float largest = type == StoredType::f16    ? 65504.0F
                          : type == StoredType::bf16 ? bf16_to_float(0x7F7F)
                                                     : std::numeric_limits<float>::max();
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (std::abs(values[i]) <= largest) continue;
        throw InputError({.what = fmt::format("a merged weight is {}, which {} cannot hold (its "
                                              "largest is {})",
                                              values[i], to_string(type), largest),
                          .where = fmt::format("tensor {}, element {}", name, i),
                          .remedy = "store the weights in a wider type"});
    }
    return encode(values, type);
}

/// The base's tensors with the adapter's share added, or as they were trained.
class Merger {
public:
    Merger(const HfFolder& base, const PeftAdapter& adapter) : base_(base), adapter_(adapter) {
        for (const Module& module : adapter.layout.modules) {
            const bool dense = module.spans.front().part == Part::dense;
            modules_[dense ? module.name : "model." + module.name + ".weight"] = &module;
        }
    }

    std::vector<float> tensor(const TensorSpec& spec) const {
        std::vector<float> weight(elements(spec));
        const auto found = modules_.find(spec.name);
        if (found != modules_.end() && found->second->spans.front().part == Part::dense) {
            const float* const trained = adapter_.x.data() + found->second->spans.front().offset;
            std::copy_n(trained, weight.size(), weight.begin());
            return weight;
        }
        base_.read(spec.name, weight);
        if (found != modules_.end()) add(*found->second, weight);
        return weight;
    }

private:
    /// weight += scale B A.
    void add(const Module& module, std::span<float> weight) const {
        const Span &a = module.spans[0], &b = module.spans[1];
        const float* const a_values = adapter_.x.data() + a.offset;
        const float* const b_values = adapter_.x.data() + b.offset;
        std::vector<double> sum(static_cast<std::size_t>(a.cols));
        for (std::int64_t row = 0; row < b.rows; ++row) {
            std::fill(sum.begin(), sum.end(), 0.0);
            for (std::int64_t r = 0; r < a.rows; ++r) {
                const double factor = module.scale * b_values[row * b.cols + r];
                const float* const a_row = a_values + r * a.cols;
                for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += factor * a_row[j];
            }
            float* const to = weight.data() + row * a.cols;
            for (std::size_t j = 0; j < sum.size(); ++j) to[j] = static_cast<float>(to[j] + sum[j]);
        }
    }

    const HfFolder& base_;
    const PeftAdapter& adapter_;
    std::map<std::string, const Module*> modules_;
};

/// Tensors that share a file.
using Shard = std::vector<TensorSpec>;

/// The tensors in order, a new file where the next one would make it too large.
class ShardPlan {
public:
    ShardPlan(const HfFolder& base, const SaveOptions& options) : base_(base), options_(options) {
        std::int64_t used = 0;
        for (TensorSpec& spec : expected_tensors(base.config())) {
            const auto bytes = static_cast<std::int64_t>(elements(spec) * size_of(type(spec)));
            if (shards_.empty() || (used > 0 && used + bytes > options.shard_bytes)) {
                shards_.emplace_back();
                used = 0;
            }
            used += bytes;
            total_bytes_ += bytes;
            shards_.back().push_back(std::move(spec));
        }
    }

    StoredType type(const TensorSpec& spec) const {
        return options_.type ? *options_.type : base_.type(spec.name);
    }
    const std::vector<Shard>& shards() const { return shards_; }
    std::string file_name(std::size_t shard) const {
        if (shards_.size() == 1) return "model.safetensors";
        return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards_.size());
    }
    /// model.safetensors.index.json.
    std::string index() const {
        std::map<std::string, std::string> places;
        for (std::size_t i = 0; i < shards_.size(); ++i) {
            for (const TensorSpec& spec : shards_[i]) places[spec.name] = file_name(i);
        }
        JsonWriter map, metadata, index;
        for (const auto& [name, file] : places) map.set(name, file);
        metadata.set("total_size", total_bytes_);
        index.set("metadata", metadata);
        index.set("weight_map", map);
        return index.text(2) + "\n";
    }

private:
    const HfFolder& base_;
    const SaveOptions& options_;
    std::vector<Shard> shards_;
    std::int64_t total_bytes_ = 0;
};

std::vector<std::byte> encode_shard(const Shard& shard, const ShardPlan& plan,
                                    const Merger& merger) {
    std::vector<std::vector<std::byte>> values;
    std::vector<TensorToWrite> tensors;
    for (const TensorSpec& spec : shard) {
        values.push_back(encode_checked(merger.tensor(spec), plan.type(spec), spec.name));
        tensors.push_back({spec.name, plan.type(spec), spec.shape, values.back()});
    }
    return encode_safetensors(tensors, {{"format", "pt"}});
}

/// The base's config.json with the type that the weights now have, in the spelling it uses.
std::string encode_config(const fs::path& path, const std::optional<StoredType>& type) {
    if (!type) return read_text_file(path);
    const char* const name = *type == StoredType::bf16  ? "bfloat16"
                             : *type == StoredType::f16 ? "float16"
                                                        : "float32";
    const Json config = Json::parse_file(path);
    JsonWriter out;
    bool told = false;
    for (const std::string& key : config.keys()) {
        if (key == "dtype" || key == "torch_dtype") {
            out.set(key, name);
            told = true;
        } else {
            out.set(key, config[key]);
        }
    }
    if (!told) out.set("torch_dtype", name);
    return out.text(2) + "\n";
}

LazyMember text_member(std::string name, const std::string& text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {std::move(name),
            [kept = std::vector<std::byte>(bytes.begin(), bytes.end())] { return kept; }};
}

}  // namespace

void write_merged_model(const HfFolder& base, const PeftAdapter& adapter,
                        const SaveOptions& options, const AtomicFile& files,
                        const fs::path& folder) {
    const ShardPlan plan(base, options);
    const Merger merger(base, adapter);
    std::vector<LazyMember> members{
        text_member("config.json", encode_config(base.path() / "config.json", options.type))};
    for (std::size_t i = 0; i < plan.shards().size(); ++i) {
        members.push_back(
            {plan.file_name(i), [&, i] { return encode_shard(plan.shards()[i], plan, merger); }});
    }
    if (plan.shards().size() > 1) {
        members.push_back(text_member("model.safetensors.index.json", plan.index()));
    }
    for (const char* name : companions) {
        const fs::path path = base.path() / name;
        if (fs::is_regular_file(path)) {
            members.push_back({name, [path] { return read_file(path); }});
        }
    }
    files.write_folder(folder, members);
}

}  // namespace fedit
