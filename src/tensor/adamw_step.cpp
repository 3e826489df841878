// tensor/adamw_step.cpp: the constants of an AdamW step from its settings.
#include "tensor/adamw_step.h"

#include <cmath>

namespace fedit {

AdamWStep adamw_step(const Backend::AdamW& settings) {
    const auto step = static_cast<double>(settings.step);
    const double correction1 = 1 - std::pow(settings.beta1, step);
    const double correction2 = 1 - std::pow(settings.beta2, step);
    return {.one_minus_beta1 = static_cast<float>(1 - settings.beta1),
            .beta2 = static_cast<float>(settings.beta2),
            .one_minus_beta2 = static_cast<float>(1 - settings.beta2),
            .root_of_correction2 = static_cast<float>(std::sqrt(correction2)),
            .eps = static_cast<float>(settings.eps),
            .decay = static_cast<float>(1 - settings.lr * settings.weight_decay),
            .step_size = static_cast<float>(settings.lr / correction1)};
}

}  // namespace fedit
