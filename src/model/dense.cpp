// model/dense.cpp: lays the weights that train out in one flat vector, and finds them again.
#include "fedit/model/dense.h"

#include <fmt/core.h>

#include <array>
#include <map>
#include <string>
#include <string_view>

#include "fedit/core/error.h"
#include "model/dense_offsets.h"
#include "model/linear_shape.h"

namespace fedit {

namespace {

/// Linear layers that share a product, in its order.
const std::vector<std::vector<Linear>> products{
    {Linear::q, Linear::k, Linear::v}, {Linear::o}, {Linear::gate, Linear::up}, {Linear::down}};

std::string tensor_name(std::int64_t layer, Linear linear, const char* kind) {
    return "model." + module_name(layer, linear) + kind;
}

/// All tensors of a model, in the order of the layout.
std::vector<TensorSpec> tensors_in_order(const ModelConfig& model) {
    std::map<std::string, TensorSpec> left;
    std::vector<std::string> names;
    for (TensorSpec& spec : expected_tensors(model)) {
        names.push_back(spec.name);
        left.emplace(spec.name, std::move(spec));
    }
    std::vector<TensorSpec> ordered;
    const auto take = [&](const std::string& name) {
        const auto found = left.find(name);
        if (found == left.end()) return;
        ordered.push_back(std::move(found->second));
        left.erase(found);
    };
    for (std::int64_t layer = 0; layer < model.layers; ++layer) {
        for (const std::vector<Linear>& parts : products) {
            for (const char* kind : {".weight", ".bias"}) {
                for (const Linear part : parts) take(tensor_name(layer, part, kind));
            }
        }
    }
    for (const std::string& name : names) take(name);
    return ordered;
}

/// Finds offsets by name.
class Finder {
public:
    explicit Finder(const Layout& layout) {
        for (const Module& module : layout.modules) {
            offsets_.emplace(module.name, module.spans.front().offset);
        }
    }
    std::int64_t find(const std::string& name) const {
        const auto found = offsets_.find(name);
        return found == offsets_.end() ? frozen : found->second;
    }
    /// The first part's offset, the others following.
    std::int64_t find(const ModelConfig& model, std::int64_t layer,
                      const std::vector<Linear>& parts, const char* kind) const {
        const std::int64_t first = find(tensor_name(layer, parts.front(), kind));
        std::int64_t next = first;
        for (const Linear part : parts) {
            const std::string name = tensor_name(layer, part, kind);
            if (find(name) != (first == frozen ? frozen : next)) {
                throw ShapeError({.what = "the parts of one product do not follow each other",
                                  .where = name,
                                  .remedy = "make the layout with make_dense_layout"});
            }
            const LinearShape shape = linear_shape(model, part);
            next += std::string_view(kind) == ".bias" ? shape.out : shape.out * shape.in;
        }
        return first;
    }

private:
    std::map<std::string, std::int64_t> offsets_;
};

}  // namespace

Layout make_dense_layout(const ModelConfig& model, Tune tune) {
    Layout layout;
    for (const TensorSpec& spec : tensors_in_order(model)) {
        if (tune == Tune::bitfit && !spec.name.ends_with(".bias")) continue;
        const std::int64_t rows = spec.shape.size() == 2 ? spec.shape[0] : 1;
        const Span span{Part::dense, layout.size, rows, spec.shape.back()};
        layout.size += span.size();
        layout.modules.push_back({.name = spec.name, .spans = {span}});
    }
    if (layout.modules.empty()) {
        throw InputError({.what = "BitFit trains biases, and this model has none",
                          .where = "--tune bitfit",
                          .remedy = "use --tune lora or full, or a model with biases"});
    }
    return layout;
}

bool is_dense(const Layout& layout) {
    return !layout.modules.empty() && !layout.modules.front().spans.empty() &&
           layout.modules.front().spans.front().part == Part::dense;
}

std::vector<float> read_dense(const Layout& layout, const HfFolder& folder, int threads) {
    std::vector<float> x(static_cast<std::size_t>(layout.size));
    for (const Module& module : layout.modules) {
        const Span& span = module.spans.front();
        folder.read(module.name,
                    std::span(x).subspan(static_cast<std::size_t>(span.offset),
                                         static_cast<std::size_t>(span.size())),
                    threads);
    }
    return x;
}

DenseOffsets::DenseOffsets(const ModelConfig& model, const Layout& layout)
    : trains(is_dense(layout)), layers(static_cast<std::size_t>(model.layers)) {
    if (!trains) return;
    const Finder finder(layout);
    embedding = finder.find("model.embed_tokens.weight");
    final_norm = finder.find("model.norm.weight");
    head = model.tied_head ? embedding : finder.find("lm_head.weight");
    for (std::int64_t i = 0; i < model.layers; ++i) {
        DenseLayer& layer = layers[static_cast<std::size_t>(i)];
        const std::string prefix = fmt::format("model.layers.{}.", i);
        layer.attention_norm = finder.find(prefix + "input_layernorm.weight");
        layer.q_norm = finder.find(prefix + "self_attn.q_norm.weight");
        layer.k_norm = finder.find(prefix + "self_attn.k_norm.weight");
        layer.mlp_norm = finder.find(prefix + "post_attention_layernorm.weight");
        const std::array linears{&layer.qkv, &layer.o, &layer.gate_up, &layer.down};
        for (std::size_t p = 0; p < linears.size(); ++p) {
            linears[p]->weight = finder.find(model, i, products[p], ".weight");
            linears[p]->bias = finder.find(model, i, products[p], ".bias");
        }
    }
}

}  // namespace fedit
