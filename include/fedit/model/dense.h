// model/dense.h: weights of the base that train themselves, as one flat vector: full tuning, and
// BitFit.
#pragma once

#include <cstdint>
#include <vector>

#include "fedit/model/hf_folder.h"
#include "fedit/tensor/layout.h"

namespace fedit {

/// Which numbers of a model train.
enum class Tune : std::uint8_t {
    lora,   ///< adapters beside the frozen base
    full,   ///< every tensor of the base
    bitfit  ///< its biases alone (arXiv 2106.10199)
};

/// One module of one dense span for each tensor that trains, under its Hugging Face name. Those
/// that one product multiplies by (q, k, v; gate, up) follow each other. A tied head is the
/// embedding. Throws InputError for `bitfit` where the model has no biases.
Layout make_dense_layout(const ModelConfig& model, Tune tune);

/// Whether a layout's spans are weights of the base.
bool is_dense(const Layout& layout);

/// The layout's tensors as the folder has them. Throws InputError for a weight that is not finite.
std::vector<float> read_dense(const Layout& layout, const HfFolder& folder, int threads = 1);

}  // namespace fedit
