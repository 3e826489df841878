// federation/aggregation_error.h: what is lost when LoRA's factors are averaged instead of their
// products.
#pragma once

#include <span>

#include "fedit/tensor/layout.h"

namespace fedit {

/// One client's values of a module, A and then B, and its share of the mean.
struct WeightedModule {
    double weight = 0;
    std::span<const float> values;
};

/// Squared Frobenius norms, so that those of several modules add up; without the module's scale.
struct AggregationError {
    double error = 0;         ///< ||sum_k p_k B_k A_k - B A||^2
    double mean_product = 0;  ///< ||sum_k p_k B_k A_k||^2
};

/// The error of a LoRA module whose global A and B are `global`, with p_k = weight / sum of the
/// weights (arXiv 2410.09432). In double, and of the differences to `global`, so that it
/// keeps its digits when clients hardly differ; no (out x in) matrix is made. The order of the
/// clients decides the last bits. Throws ShapeError if a length is not the module's, or its spans
/// are not an A and a B.
AggregationError aggregation_error(const Module& module, std::span<const float> global,
                                   std::span<const WeightedModule> clients);

}  // namespace fedit
