// tensor/adamw_step.h: an AdamW step's constants, the same for every element on every back end.
#pragma once

#include "fedit/tensor/backend.h"

namespace fedit {

/// Derived in double, then rounded, as PyTorch does.
struct AdamWStep {
    float one_minus_beta1, beta2, one_minus_beta2;
    float root_of_correction2;  ///< sqrt(1 - beta2^step)
    float eps;
    float decay;      ///< 1 - lr * weight_decay
    float step_size;  ///< lr / (1 - beta1^step)
};

AdamWStep adamw_step(const Backend::AdamW& settings);

}  // namespace fedit
