// model/hf_folder.h: a Hugging Face model folder: config, and tensors whole or in shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "fedit/io/safetensors.h"
#include "fedit/model/model_config.h"

namespace fedit {

class Faults;

/// One tensor that a model has.
struct TensorSpec {
    std::string name;
    std::vector<std::int64_t> shape;
};
/// All tensors of a model, under their Hugging Face names, in a fixed order. A tied head is not
/// among them: it is the embedding.
std::vector<TensorSpec> expected_tensors(const ModelConfig& config);

/// Told how many bytes of a model have been read; by any thread, one call at a time.
using BytesRead = std::function<void(std::int64_t)>;

/// Opens and checks the folder: every tensor that the config calls for is there, has its shape and
/// a float type; tensors that nothing calls for are errors (stored rotary frequencies excepted). A
/// tied head may be stored as the embedding, as the head, or as both if they are equal. Throws
/// InputError with all faults at once.
class HfFolder {
public:
    explicit HfFolder(const std::filesystem::path& folder);

    const std::filesystem::path& path() const { return path_; }
    const ModelConfig& config() const { return config_; }
    /// Reads a tensor as floats on up to `threads` threads; throws InputError naming file, tensor
    /// and the first element that is NaN or Inf if there is one.
    void read(const std::string& name, std::span<float> out, int threads = 1) const;
    /// A tensor's bytes as they are stored, in type(name), at any address; throws as read() does.
    std::span<const std::byte> stored(const std::string& name, int threads = 1) const;
    bool has(const std::string& name) const;
    /// How a tensor is stored; `name` must be among the expected ones.
    StoredType type(const std::string& name) const;
    std::int64_t elements(const std::string& name) const;
    /// Of a tensor as it is stored, and of all that are expected.
    std::int64_t bytes(const std::string& name) const;
    std::int64_t bytes() const;
    /// SHA-256 (hex) of config.json and all weights: part of a run's identity. Of weights it takes
    /// in the SHA-256 of every 16 MiB of a tensor, which `threads` threads find side by side.
    std::string fingerprint(int threads = 1, const BytesRead& told = {}) const;

private:
    class Opener;
    /// Where a tensor lies: its file, and its name there.
    struct Place {
        std::size_t file = 0;
        std::string name;
    };
    const Place& place(const std::string& name) const;
    [[noreturn]] void throw_not_finite(const Place& place, std::int64_t element) const;
    void resolve_tied_head(Faults& faults);
    void check_tensors(const std::set<std::string>& told, Faults& faults) const;
    void check_tensor(const TensorSpec& spec, const Place& place, Faults& faults) const;

    std::filesystem::path path_;
    ModelConfig config_;
    std::vector<SafetensorsFile> files_;
    std::map<std::string, Place> places_;
};

/// A new model's model.safetensors: weights from Normal(0, initializer_range), norms 1, biases 0, a
/// pure function of seed and config. `threads` make its tensors.
std::vector<std::byte> make_random_weights(const ModelConfig& config, std::uint64_t seed,
                                           int threads = 1);

}  // namespace fedit
