// train/schedule.h: learning rates by step.
#pragma once

#include <cstdint>

namespace fedit {

enum class LrScheduler : std::uint8_t { constant, linear, cosine };

/// `learning_rate` times, at step t of T (t from 0): t / warmup while t < warmup; then constant 1,
/// linear (T - t) / (T - warmup), or cosine (1 + cos(pi (t - warmup) / (T - warmup))) / 2, as in
/// Transformers' get_*_schedule_with_warmup; never below 0.
struct Schedule {
    LrScheduler kind = LrScheduler::constant;
    double learning_rate = 3e-4;
    std::int64_t warmup_steps = 0;
    double at(std::int64_t step, std::int64_t total_steps) const;
};

}  // namespace fedit
