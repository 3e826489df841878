// tests/support/on_every_backend.h: runs the tests of an operation on each back end of the build,
// for each type that it keeps activations in.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <string_view>
#include <tuple>

#include "fedit/tensor/cuda_devices.h"
#include "tests/support/compare.h"

namespace fedit::test {

struct BackendCase {
    bool cuda = false;
    Dtype activations = Dtype::fp32;
};

/// The CPU always; CUDA in a build that has it, also on a machine without a GPU, where its tests
/// say that they were skipped.
inline std::vector<BackendCase> backend_cases() {
    std::vector<BackendCase> all{{}};
    if (!find_cuda_devices().libraries.empty()) {
        all.push_back({.cuda = true, .activations = Dtype::fp32});
        all.push_back({.cuda = true, .activations = Dtype::bf16});
    }
    return all;
}

inline std::string backend_name(const BackendCase& c) {
    return c.cuda ? "cuda_" + std::string(to_string(c.activations)) : "cpu";
}

/// FEDIT_TEST_STRICT=gpu: the machine has one, and to miss it is a failure.
inline bool gpu_is_promised() {
    const char* strict = std::getenv("FEDIT_TEST_STRICT");
    return strict != nullptr && std::string_view(strict).find("gpu") != std::string_view::npos;
}

/// The nearest values that `dtype` holds, ties to even.
inline Matrix stored(Matrix m, Dtype dtype) {
    for (double& value : m.values) {
        value = static_cast<float>(value);
        if (dtype == Dtype::fp32) continue;
        const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
        value = std::bit_cast<float>((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000U);
    }
    return m;
}

/// A test of one operation for a Case (shapes) on a back end. GPU operations report their faults
/// themselves.
template <class Case>
class OnEveryBackend : public testing::TestWithParam<std::tuple<BackendCase, Case>> {
protected:
    void SetUp() override {
        const BackendCase& c = std::get<0>(this->GetParam());
        if (!c.cuda) {
            backend_ = make_cpu_backend(2);
        } else if (cuda_device_count() > 0) {
            backend_ = make_cuda_backend(0, CudaErrors::at_once);
        } else if (gpu_is_promised()) {
            FAIL() << "FEDIT_TEST_STRICT asks for a GPU: " << find_cuda_devices().trouble;
        } else {
            GTEST_SKIP() << "no GPU: " << find_cuda_devices().trouble;
        }
    }

    const Case& test_case() const { return std::get<1>(this->GetParam()); }
    Backend& backend() { return *backend_; }
    Dtype dtype() const { return std::get<0>(this->GetParam()).activations; }

    /// Random activations, as the back end holds them.
    Matrix random(std::int64_t rows, std::int64_t cols, std::uint32_t client,
                  double scale = 1) const {
        return stored(random_matrix(rows, cols, client, scale), dtype());
    }
    /// Activations in the back end's memory.
    DeviceMatrix activations(const Matrix& values, std::int64_t stride = 0) {
        return DeviceMatrix(backend(), values, stride, dtype());
    }
    /// Zeros, to be written to.
    DeviceMatrix results(const Shape& shape) {
        return activations(Matrix(shape.rows, shape.cols), shape.stride);
    }
    /// What close() allows: the given number for fp32; for bf16 twice the rounding of a result, or
    /// more where an operation rounds between its steps.
    double tolerance(double fp32 = 40 * 6e-8, double bf16 = 4e-3) const {
        return dtype() == Dtype::fp32 ? fp32 : bf16;
    }
    testing::AssertionResult close_enough(const Matrix& got, const Matrix& want) const {
        return close(got, want, tolerance());
    }

private:
    std::unique_ptr<Backend> backend_;
};

/// Every case on every back end.
template <class Case>
auto on_every_backend(std::initializer_list<Case> cases) {
    return testing::Combine(testing::ValuesIn(backend_cases()),
                            testing::ValuesIn(std::vector<Case>(cases)));
}

/// Makes "cuda_bf16_7x64" of a function that names a case "7x64".
template <class NameCase>
auto named_by(NameCase name_case) {
    return [name_case](const auto& test) {
        return backend_name(std::get<0>(test.param)) + "_" + name_case(std::get<1>(test.param));
    };
}

}  // namespace fedit::test
