// train/schedule.cpp: learning rates by step.
#include "fedit/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace fedit {

double Schedule::at(std::int64_t step, std::int64_t total_steps) const {
    if (step < warmup_steps) {
        return learning_rate * static_cast<double>(step) / static_cast<double>(warmup_steps);
    }
    // A warm-up as long as the run leaves no steps to decay over.
    const auto decay = static_cast<double>(std::max<std::int64_t>(1, total_steps - warmup_steps));
    const auto left = static_cast<double>(std::max<std::int64_t>(0, total_steps - step));
    switch (kind) {
        case LrScheduler::constant:
            break;
        case LrScheduler::linear:
            return learning_rate * (left / decay);
        case LrScheduler::cosine: {
            const double done = static_cast<double>(step - warmup_steps) / decay;
            return learning_rate *
                   std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, done))));
        }
    }
    return learning_rate;
}

}  // namespace fedit
