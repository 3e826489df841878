// train/optimizer.cpp: AdamW and SGD on an adapter, with clipping by the global norm.
#include "train/optimizer.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "fedit/core/error.h"

namespace fedit {

namespace {

void check_state(const OptimizerState& state, std::size_t size) {
    const bool fits =
        state.m.size() == state.v.size() && (state.m.empty() || state.m.size() == size);
    if (fits) return;
    throw ShapeError({.what = "an optimizer's state does not fit its adapter",
                      .where = fmt::format("moments of {} and {} values, adapter of {}",
                                           state.m.size(), state.v.size(), size),
                      .remedy = "resume with the adapter layout that the state was saved with"});
}

}  // namespace

AdapterInTraining::AdapterInTraining(Backend& backend, const LocalConfig& config,
                                     std::span<const float> x, const OptimizerState& state)
    : backend_(backend),
      config_(config),
      size_(x.size()),
      x_(backend, x.size_bytes()),
      gradient_(backend, x.size_bytes()),
      steps_(state.step) {
    check_state(state, size_);
    backend_.upload(x_.data(), std::as_bytes(x));
    if (config_.optimizer == OptimizerKind::adamw) {
        m_ = moments_from(state.m);
        v_ = moments_from(state.v);
    }
}

DeviceBuffer AdapterInTraining::moments_from(std::span<const float> values) {
    DeviceBuffer buffer(backend_, size_ * sizeof(float));
    if (values.empty()) {
        backend_.fill(all(buffer), 0.0F);
    } else {
        backend_.upload(buffer.data(), std::as_bytes(values));
    }
    return buffer;
}

void AdapterInTraining::clear_gradient() {
    backend_.fill(all(gradient_), 0.0F);
}

double AdapterInTraining::gradient_norm() {
    return std::sqrt(backend_.squared_norm(all(gradient_)));
}

void AdapterInTraining::step(double learning_rate, double norm) {
    if (config_.max_grad_norm > 0) {
        const double factor = std::min(1.0, config_.max_grad_norm / (norm + 1e-6));
        if (factor < 1) backend_.scale(all(gradient_), static_cast<float>(factor));
    }
    ++steps_;
    if (config_.optimizer == OptimizerKind::sgd) {
        backend_.sgd(all(x_), all(gradient_), learning_rate, config_.weight_decay);
        return;
    }
    backend_.adamw(all(x_), all(gradient_), all(m_), all(v_),
                   {.lr = learning_rate,
                    .beta1 = config_.beta1,
                    .beta2 = config_.beta2,
                    .eps = config_.eps,
                    .weight_decay = config_.weight_decay,
                    .step = steps_});
}

std::vector<float> AdapterInTraining::download(const DeviceBuffer& buffer) const {
    std::vector<float> values(buffer.bytes() / sizeof(float));
    backend_.download(std::as_writable_bytes(std::span(values)), buffer.data());
    return values;
}

std::vector<float> AdapterInTraining::download_x() const {
    return download(x_);
}

OptimizerState AdapterInTraining::download_state() const {
    return {.m = download(m_), .v = download(v_), .step = steps_};
}

}  // namespace fedit
