// train/optimizer.cpp: AdamW and SGD on an adapter, with clipping by the global norm.
#include "train/optimizer.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

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

AdapterMemory::AdapterMemory(Backend& backend, std::size_t floats, OptimizerKind optimizer)
    : x(backend, floats * sizeof(float)), gradient(backend, floats * sizeof(float)) {
    if (optimizer != OptimizerKind::adamw) return;
    m = DeviceBuffer(backend, floats * sizeof(float));
    v = DeviceBuffer(backend, floats * sizeof(float));
}

AdapterInTraining::AdapterInTraining(Backend& backend, const LocalConfig& config,
                                     AdapterMemory& memory, std::size_t size,
                                     const OptimizerState& state)
    : backend_(backend), config_(config), memory_(memory), size_(size), steps_(state.step) {
    check_state(state, size_);
    if (config_.optimizer == OptimizerKind::adamw) {
        set_moments(memory_.m, state.m);
        set_moments(memory_.v, state.v);
    }
}

void AdapterInTraining::start_from(std::span<const float> x) {
    backend_.upload(memory_.x.data(), std::as_bytes(x));
}

void AdapterInTraining::start_from_backend(const float* x) {
    backend_.copy(all(memory_.x), {x, size_});
}

void AdapterInTraining::set_moments(const DeviceBuffer& buffer, std::span<const float> values) {
    if (values.empty()) {
        backend_.fill(all(buffer), 0.0F);
    } else {
        backend_.upload(buffer.data(), std::as_bytes(values));
    }
}

void AdapterInTraining::clear_gradient() {
    backend_.fill(all(memory_.gradient), 0.0F);
}

double AdapterInTraining::gradient_norm() {
    return std::sqrt(backend_.squared_norm(all(memory_.gradient)));
}

void AdapterInTraining::step(double learning_rate, double norm) {
    if (config_.max_grad_norm > 0) {
        const double factor = std::min(1.0, config_.max_grad_norm / (norm + 1e-6));
        if (factor < 1) backend_.scale(all(memory_.gradient), static_cast<float>(factor));
    }
    ++steps_;
    if (config_.optimizer == OptimizerKind::sgd) {
        backend_.sgd(all(memory_.x), all(memory_.gradient), learning_rate, config_.weight_decay);
        return;
    }
    backend_.adamw(all(memory_.x), all(memory_.gradient), all(memory_.m), all(memory_.v),
                   {.lr = learning_rate,
                    .beta1 = config_.beta1,
                    .beta2 = config_.beta2,
                    .eps = config_.eps,
                    .weight_decay = config_.weight_decay,
                    .step = steps_});
}

std::vector<float> AdapterInTraining::download(const DeviceBuffer& buffer,
                                               std::vector<float> used) const {
    used.resize(buffer.bytes() / sizeof(float));
    backend_.download(std::as_writable_bytes(std::span(used)), buffer.data());
    return used;
}

std::vector<float> AdapterInTraining::download_x(std::vector<float> used) const {
    return download(memory_.x, std::move(used));
}

OptimizerState AdapterInTraining::download_state() const {
    OptimizerState state{.step = steps_};
    if (config_.optimizer != OptimizerKind::adamw) return state;
    state.m = download(memory_.m);
    state.v = download(memory_.v);
    return state;
}

}  // namespace fedit
