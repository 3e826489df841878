// tensor/layout.h: names and places of the matrices in one flat vector, the currency of the
// federation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fedit {

/// What a span is. lora_a, lora_b: factors of delta W = scale B A (LoRA, arXiv 2106.09685); dense:
/// a weight of the base itself.
enum class Part : std::uint8_t { lora_a, lora_b, dense };

/// One matrix in the flat vector, row major. A is (r x in), B is (out x r), as PEFT stores them; a
/// dense vector (a bias, a norm's gain) has one row.
struct Span {
    Part part{};
    std::int64_t offset = 0;  ///< of the first element, in floats
    std::int64_t rows = 0, cols = 0;
    std::int64_t size() const { return rows * cols; }
    bool operator==(const Span&) const = default;
};

/// Adjacent spans: the A and B of a linear layer, "layers.3.self_attn.q_proj"; or one tensor of the
/// base, "model.norm.weight".
struct Module {
    std::string name;
    std::vector<Span> spans;
    double scale = 1;  ///< of the layer's delta W: alpha / r, or what else the adapter asks for
    bool operator==(const Module&) const = default;
};

/// All modules, layer by layer. Only vectors of equal layouts may be summed.
struct Layout {
    std::vector<Module> modules;
    std::int64_t size = 0;  ///< floats
    bool operator==(const Layout&) const = default;
};

}  // namespace fedit
