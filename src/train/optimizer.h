// train/optimizer.h: one optimizer step on an adapter in a back end's memory.
#pragma once

#include "fedit/tensor/backend.h"
#include "fedit/train/job.h"

namespace fedit {

/// An adapter, its gradient and its moments, in a back end's memory.
class AdapterInTraining {
public:
    /// Starts from `x` and `state` (empty: fresh moments).
    AdapterInTraining(Backend& backend, const LocalConfig& config, std::span<const float> x,
                      const OptimizerState& state);

    const float* x() const { return x_.floats(); }
    float* gradient() const { return gradient_.floats(); }
    void clear_gradient();
    /// The gradient's norm (2-norm over all of it).
    double gradient_norm();
    /// Clips as torch.nn.utils.clip_grad_norm_ does, given the norm, and takes a step.
    void step(double learning_rate, double norm);

    std::vector<float> download_x() const;
    OptimizerState download_state() const;

private:
    std::span<float> all(const DeviceBuffer& buffer) const { return {buffer.floats(), size_}; }
    std::vector<float> download(const DeviceBuffer& buffer) const;
    DeviceBuffer moments_from(std::span<const float> values);

    Backend& backend_;
    const LocalConfig& config_;
    std::size_t size_;
    DeviceBuffer x_, gradient_, m_, v_;
    std::int64_t steps_ = 0;
};

}  // namespace fedit
