// model/hf_folder.cpp: opens a model folder and checks that it holds the model its config
// describes.
#include "fedit/model/hf_folder.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <system_error>

#include "fedit/core/parallel.h"
#include "fedit/io/atomic_file.h"
#include "fedit/io/sha256.h"
#include "model/faults.h"
#include "model/shape_text.h"

namespace fedit {

namespace fs = std::filesystem;

namespace {

constexpr const char* embedding_name = "model.embed_tokens.weight";
constexpr const char* head_name = "lm_head.weight";
constexpr const char* whole_name = "model.safetensors";
constexpr const char* index_name = "model.safetensors.index.json";

/// Pieces of tensors whose hashes the fingerprint is made of: part of its definition.
constexpr std::size_t hashed_at_once = std::size_t{16} << 20;

Json read_config(const fs::path& folder) {
    if (!fs::is_directory(folder)) {
        throw InputError(
            {.what = "the model folder does not exist or is no folder",
             .where = folder.string(),
             .remedy = "give a Hugging Face model folder: config.json and safetensors"});
    }
    const fs::path path = folder / "config.json";
    if (!fs::is_regular_file(path)) {
        throw InputError(
            {.what = "config.json is missing from the model folder",
             .where = path.string(),
             .remedy = "give a Hugging Face model folder: config.json and safetensors"});
    }
    return Json::parse_file(path);
}

/// Tensors that nobody needs: old checkpoints store the rotary frequencies, which config.json
/// gives.
bool is_redundant(const std::string& name) {
    return name.ends_with(".rotary_emb.inv_freq");
}

}  // namespace

/// Finds the files of a folder and which tensor lies in which.
class HfFolder::Opener {
public:
    Opener(HfFolder& folder, Faults& faults) : folder_(folder), faults_(faults) {}

    void open() {
        const fs::path whole = folder_.path_ / whole_name;
        const fs::path index = folder_.path_ / index_name;
        if (fs::exists(whole)) {
            open_whole(whole);
        } else if (fs::exists(index)) {
            faults_.check([&] { open_shards(index); });
        } else {
            faults_.add({.what = "the model folder holds no weights that can be read",
                         .where = folder_.path_.string(),
                         .remedy = fmt::format("provide {} or {} with its shards (save_pretrained "
                                               "of Transformers writes them)",
                                               whole_name, index_name)});
        }
    }

    /// Tensors that the index places where they are not: told once, not again as missing.
    const std::set<std::string>& absent() const { return absent_; }

private:
    void open_whole(const fs::path& path) {
        faults_.check([&] {
            folder_.files_.emplace_back(path);
            for (const auto& [name, tensor] : folder_.files_.back().tensors()) {
                folder_.places_[name] = {0, name};
            }
        });
    }

    void open_shards(const fs::path& index) {
        const Json weight_map = Json::parse_file(index)["weight_map"];
        std::map<std::string, std::vector<std::string>> names_of;
        for (const std::string& name : weight_map.keys()) {
            const std::string& shard = weight_map[name].as_string();
            if (shard.empty() || fs::path(shard).filename() != shard) {
                faults_.add({.what = fmt::format("shard \"{}\" is not the name of a file", shard),
                             .where = weight_map[name].where(),
                             .remedy = "name a file that lies beside the index"});
                continue;
            }
            names_of[shard].push_back(name);
        }
        for (const auto& [shard, names] : names_of) {
            absent_.insert(names.begin(), names.end());  // until the shard proves to hold them
            faults_.check([&, &shard = shard, &names = names] { open_shard(index, shard, names); });
        }
    }

    void open_shard(const fs::path& index, const std::string& shard,
                    const std::vector<std::string>& names) {
        const fs::path path = folder_.path_ / shard;
        std::error_code no_status;  // a name that no file can have is that of a missing file
        if (!fs::is_regular_file(path, no_status)) {
            throw InputError(
                {.what = fmt::format("shard {} is missing", shard),
                 .where = fmt::format("{}, named by {} for {} tensors, such as {}", path.string(),
                                      index_name, names.size(), names[0]),
                 .remedy = "complete the download of the model folder"});
        }
        const SafetensorsFile& file = folder_.files_.emplace_back(path);
        std::set<std::string> unclaimed;
        for (const auto& [name, tensor] : file.tensors()) unclaimed.insert(name);
        for (const std::string& name : names) {
            if (unclaimed.erase(name) == 0) {
                faults_.add({.what = fmt::format("tensor {} is not in the shard that the index "
                                                 "names for it",
                                                 name),
                             .where = fmt::format("{}, shard {}", index.string(), shard),
                             .remedy = "use index and shards of the same download"});
                continue;
            }
            folder_.places_[name] = {folder_.files_.size() - 1, name};
            absent_.erase(name);
        }
        for (const std::string& name : unclaimed) {
            faults_.add({.what = fmt::format("tensor {} of a shard is not in the index", name),
                         .where = fmt::format("{}, shard {}", index.string(), shard),
                         .remedy = "use index and shards of the same download"});
        }
    }

    HfFolder& folder_;
    Faults& faults_;
    std::set<std::string> absent_;
};

HfFolder::HfFolder(const fs::path& folder)
    : path_(folder), config_(parse_model_config(read_config(folder))) {
    Faults faults;
    Opener opener(*this, faults);
    opener.open();
    if (faults.empty() || !places_.empty()) {  // else what failed to open is fault enough
        resolve_tied_head(faults);
        check_tensors(opener.absent(), faults);
    }
    faults.throw_if_any();
}

void HfFolder::resolve_tied_head(Faults& faults) {
    if (!config_.tied_head) return;
    const auto head = places_.find(head_name);
    if (head == places_.end()) return;
    const Place place = head->second;
    places_.erase(head);
    if (!has(embedding_name)) {
        places_[embedding_name] = place;
        return;
    }
    const Place& embedding = places_[embedding_name];
    const auto a = files_[place.file].bytes(place.name);
    const auto b = files_[embedding.file].bytes(embedding.name);
    if (!std::equal(a.begin(), a.end(), b.begin(), b.end())) {
        faults.add({.what = fmt::format("{} and {} differ, but the config ties them", head_name,
                                        embedding_name),
                    .where = fmt::format("{}; config.json, field tie_word_embeddings = true",
                                         files_[place.file].path().string()),
                    .remedy = "set tie_word_embeddings to false, or store one of the two"});
    }
}

void HfFolder::check_tensors(const std::set<std::string>& told, Faults& faults) const {
    std::set<std::string> surplus;
    for (const auto& [name, place] : places_) {
        if (!is_redundant(name)) surplus.insert(name);
    }
    std::vector<std::string> missing;
    for (const TensorSpec& spec : expected_tensors(config_)) {
        surplus.erase(spec.name);
        const auto place = places_.find(spec.name);
        if (place != places_.end()) {
            check_tensor(spec, place->second, faults);
        } else if (!told.contains(spec.name)) {
            missing.push_back(spec.name);
        }
    }
    if (!missing.empty()) {
        faults.add({.what = fmt::format("tensors that config.json calls for are missing: {}",
                                        name_some(missing)),
                    .where = path_.string(),
                    .remedy = "complete the download, or correct config.json"});
    }
    if (!surplus.empty()) {
        faults.add({.what = fmt::format("tensors that config.json does not call for: {}",
                                        name_some({surplus.begin(), surplus.end()})),
                    .where = path_.string(),
                    .remedy = "correct config.json (layers, biases, tied head), or remove them"});
    }
}

void HfFolder::check_tensor(const TensorSpec& spec, const Place& place, Faults& faults) const {
    const SafetensorsFile& file = files_[place.file];
    const StoredTensor& tensor = file.tensor(place.name);
    const std::string where = fmt::format("{}, tensor {}", file.path().string(), place.name);
    if (tensor.shape != spec.shape) {
        faults.add({.what = fmt::format("a tensor has shape {}, config.json calls for {}",
                                        shape_text(tensor.shape), shape_text(spec.shape)),
                    .where = where,
                    .remedy = "correct config.json, or use the weights that belong to it"});
    }
    if (tensor.type != StoredType::f32 && tensor.type != StoredType::f16 &&
        tensor.type != StoredType::bf16) {
        faults.add({.what = fmt::format("a tensor has type {}", to_string(tensor.type)),
                    .where = where,
                    .remedy = "supported: F32, F16, BF16"});
    }
}

bool HfFolder::has(const std::string& name) const {
    return places_.contains(name);
}

StoredType HfFolder::type(const std::string& name) const {
    const Place& at = place(name);
    return files_[at.file].tensor(at.name).type;
}

std::int64_t HfFolder::elements(const std::string& name) const {
    const Place& at = place(name);
    return files_[at.file].tensor(at.name).elements();
}

std::int64_t HfFolder::bytes(const std::string& name) const {
    return elements(name) * static_cast<std::int64_t>(size_of(type(name)));
}

std::int64_t HfFolder::bytes() const {
    std::int64_t sum = 0;
    for (const TensorSpec& spec : expected_tensors(config_)) sum += bytes(spec.name);
    return sum;
}

const HfFolder::Place& HfFolder::place(const std::string& name) const {
    const auto found = places_.find(name);
    if (found != places_.end()) return found->second;
    throw InputError({.what = fmt::format("the model has no tensor {}", name),
                      .where = path_.string(),
                      .remedy = "ask for one of its expected tensors"});
}

void HfFolder::throw_not_finite(const Place& place, std::int64_t element) const {
    const SafetensorsFile& file = files_[place.file];
    const StoredType type = file.tensor(place.name).type;
    float value = 0;
    to_floats(type,
              file.bytes(place.name)
                  .subspan(static_cast<std::size_t>(element) * size_of(type), size_of(type)),
              &value);
    throw InputError({.what = fmt::format("a weight is {}", value),
                      .where = fmt::format("{}, tensor {}, element {}", file.path().string(),
                                           place.name, element),
                      .remedy = "use an intact copy of the model"});
}

void HfFolder::read(const std::string& name, std::span<float> out, int threads) const {
    const Place& at = place(name);
    const std::int64_t bad = files_[at.file].read_floats(at.name, out, threads);
    if (bad < std::ssize(out)) throw_not_finite(at, bad);
}

std::span<const std::byte> HfFolder::stored(const std::string& name, int threads) const {
    const Place& at = place(name);
    const SafetensorsFile& file = files_[at.file];
    const StoredTensor& tensor = file.tensor(at.name);
    const std::int64_t bad = first_not_finite(tensor.type, file.bytes(at.name), threads);
    if (bad < tensor.elements()) throw_not_finite(at, bad);
    return file.bytes(at.name);
}

std::string HfFolder::fingerprint(int threads, const BytesRead& told) const {
    const std::vector<TensorSpec> specs = expected_tensors(config_);
    std::vector<std::span<const std::byte>> pieces;
    std::vector<std::size_t> ends;  // of each tensor's pieces
    for (const TensorSpec& spec : specs) {
        const Place& at = places_.at(spec.name);
        std::span<const std::byte> rest = files_[at.file].bytes(at.name);
        while (!rest.empty()) {
            pieces.push_back(rest.first(std::min(rest.size(), hashed_at_once)));
            rest = rest.subspan(pieces.back().size());
        }
        ends.push_back(pieces.size());
    }
    std::vector<Digest> digests(pieces.size());
    std::mutex telling;
    std::int64_t done = 0;
    run_parallel(threads, std::ssize(pieces), [&](std::int64_t i) {
        const auto piece = static_cast<std::size_t>(i);
        digests[piece] = sha256(pieces[piece]);
        if (!told) return;
        const std::scoped_lock lock(telling);
        told(done += std::ssize(pieces[piece]));
    });
    Sha256 hash;
    hash.add(read_text_file(path_ / "config.json"));
    std::size_t next = 0;
    for (std::size_t t = 0; t < specs.size(); ++t) {
        hash.add(fmt::format("{} {} {};", specs[t].name, to_string(type(specs[t].name)),
                             shape_text(specs[t].shape)));
        for (; next < ends[t]; ++next) hash.add(digests[next]);
    }
    return to_hex(hash.finish());
}

}  // namespace fedit
