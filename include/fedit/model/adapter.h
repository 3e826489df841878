// model/adapter.h: LoRA adapters of a model as one flat vector.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fedit/model/model_config.h"
#include "fedit/tensor/layout.h"

namespace fedit {

/// The linear layers of a decoder layer, in the layout's order.
enum class Linear : std::uint8_t { q, k, v, o, gate, up, down };
inline constexpr std::size_t linear_count = 7;
std::string_view to_string(Linear linear);  ///< "q_proj" ... "down_proj"

/// LoRA (arXiv 2106.09685) as PEFT spells it.
struct LoraConfig {
    int r = 16;
    double alpha = 16;
    double dropout = 0.05;
    std::vector<std::string> target_modules{"q_proj"};
    bool use_rslora = false;  ///< scale alpha / sqrt(r) (arXiv 2312.03732)
    /// Instead of target_modules, where not empty: a regular expression of the modules' whole names
    /// ("model.layers.3.self_attn.q_proj").
    std::string target_pattern{};
    /// Ranks and alphas of single modules: regular expressions of their names or the ends of these
    /// after a dot. The first that matches counts.
    std::vector<std::pair<std::string, int>> rank_pattern{};
    std::vector<std::pair<std::string, double>> alpha_pattern{};
    bool operator==(const LoraConfig&) const = default;
};

/// Modules "layers.3.self_attn.q_proj", layer by layer, in the order q k v o gate up down; each A,
/// then B, with its own rank and scale. Throws InputError, listing the linear layers there are, if
/// a target matches none, and for r < 1.
Layout make_lora_layout(const ModelConfig& model, const LoraConfig& lora);

/// A Kaiming-uniform with a = sqrt(5), i.e. U(-1/sqrt(in), 1/sqrt(in)); B zero, as PEFT does.
std::vector<float> initial_adapter(const Layout& layout, std::uint64_t seed);

/// Module index in the layout of (layer, linear), or -1 if that layer has no adapter.
class AdapterMap {
public:
    AdapterMap(const Layout& layout, std::int64_t layers);
    int module(std::int64_t layer, Linear linear) const {
        return modules_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(linear)];
    }
    int max_rank() const { return max_rank_; }

private:
    std::vector<std::array<int, linear_count>> modules_;
    int max_rank_ = 0;
};

}  // namespace fedit
