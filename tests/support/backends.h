// tests/support/backends.h: the back ends that tests of models and training run on.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "fedit/tensor/backend.h"
#include "tests/support/guarded_backend.h"

namespace fedit::test {

enum class BackendKind {
    cpu,
    guarded,       ///< GuardedBackend with activations in fp32: the bits of the CPU
    guarded_bf16,  ///< with activations in bf16
    cuda
};

inline std::string to_string(BackendKind kind) {
    switch (kind) {
        case BackendKind::cpu:
            return "cpu";
        case BackendKind::guarded:
            return "guarded";
        case BackendKind::guarded_bf16:
            return "guarded_bf16";
        case BackendKind::cuda:
            return "cuda";
    }
    return "";
}
inline void PrintTo(BackendKind kind, std::ostream* out) {
    *out << to_string(kind);
}

inline std::unique_ptr<Backend> make_backend(BackendKind kind, int threads = 1) {
    switch (kind) {
        case BackendKind::cpu:
            break;
        case BackendKind::guarded:
            return std::make_unique<GuardedBackend>(threads);
        case BackendKind::guarded_bf16:
            return std::make_unique<GuardedBackend>(threads, Dtype::bf16);
        case BackendKind::cuda:
            return make_cuda_backend(0);
    }
    return make_cpu_backend(threads);
}

/// Those of this machine that compute in fp32: with a GPU, that too.
inline std::vector<BackendKind> fp32_backends() {
    std::vector<BackendKind> kinds{BackendKind::cpu, BackendKind::guarded};
    if (cuda_device_count() > 0) kinds.push_back(BackendKind::cuda);
    return kinds;
}

/// Floats in a back end's memory.
class DeviceVector {
public:
    DeviceVector(Backend& backend, std::span<const float> values)
        : backend_(backend), memory_(backend, values.size_bytes()) {
        backend_.upload(memory_.data(), std::as_bytes(values));
    }
    float* data() const { return memory_.floats(); }
    std::vector<float> values() const {
        std::vector<float> host(memory_.bytes() / sizeof(float));
        backend_.download(std::as_writable_bytes(std::span(host)), memory_.data());
        return host;
    }

private:
    Backend& backend_;
    DeviceBuffer memory_;
};

}  // namespace fedit::test
