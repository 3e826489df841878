// train/optimizer.h: one optimizer step on an adapter in a back end's memory.
#pragma once

#include "fedit/tensor/backend.h"
#include "fedit/train/local_trainer.h"

namespace fedit {

/// An adapter, its gradient and its moments, in a back end's memory.
class AdapterInTraining {
public:
    /// `memory` is for an adapter of `size` values, and outlives this. Begins with `state` (empty:
    /// fresh moments) and without an adapter.
    AdapterInTraining(Backend& backend, const LocalConfig& config, AdapterMemory& memory,
                      std::size_t size, const OptimizerState& state);
    void start_from(std::span<const float> x);
    void start_from_backend(const float* x);

    const float* x() const { return memory_.x.floats(); }
    float* gradient() const { return memory_.gradient.floats(); }
    void clear_gradient();
    /// The gradient's norm (2-norm over all of it).
    double gradient_norm();
    /// Clips as torch.nn.utils.clip_grad_norm_ does, given the norm, and takes a step.
    void step(double learning_rate, double norm);

    /// Over `used`, whatever it holds.
    std::vector<float> download_x(std::vector<float> used = {}) const;
    std::int64_t steps() const { return steps_; }
    OptimizerState download_state() const;

private:
    std::span<float> all(const DeviceBuffer& buffer) const { return {buffer.floats(), size_}; }
    std::vector<float> download(const DeviceBuffer& buffer, std::vector<float> used = {}) const;
    void set_moments(const DeviceBuffer& buffer, std::span<const float> values);

    Backend& backend_;
    const LocalConfig& config_;
    AdapterMemory& memory_;
    std::size_t size_;
    std::int64_t steps_ = 0;
};

}  // namespace fedit
