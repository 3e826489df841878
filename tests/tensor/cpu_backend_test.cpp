// tests/tensor/cpu_backend_test.cpp: what the CPU back end says of itself, and its memory.
#include "tensor/cpu/cpu_backend.h"
#include "fedit/core/error.h"
#include "tests/support/compare.h"

namespace fedit::test {
namespace {

TEST(CpuBackend, TellsWhatItIs) {
    const DeviceInfo info = make_cpu_backend(1)->info();
    EXPECT_EQ(info.kind, "cpu");
    EXPECT_FALSE(info.model.empty());
    EXPECT_FALSE(info.instruction_set.empty());
    EXPECT_TRUE(info.libraries.starts_with("oneDNN ")) << info.libraries;
    EXPECT_GT(info.memory_bytes, 0);
    EXPECT_TRUE(info.host_memory);
    EXPECT_TRUE(info.device_id.empty());
    EXPECT_EQ(make_cpu_backend(1)->activation_dtype(Dtype::bf16), Dtype::fp32);
}

TEST(CpuBackend, BlocksAreNotSharedOneByOne) {
    const auto backend = make_cpu_backend(1);
    const DeviceBuffer block(*backend, 64);
    EXPECT_THROW(backend->export_memory(block.data()), RunError);
    EXPECT_THROW(backend->import_memory({}), RunError);
}

TEST(CpuBackend, MemoryIsAlignedTo64Bytes) {
    const auto backend = make_cpu_backend(1);
    for (const std::size_t bytes : {0U, 1U, 100U, 4096U}) {
        const DeviceBuffer buffer(*backend, bytes);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0U) << bytes;
    }
}

TEST(CpuBackend, ElementwiseWorkHasTheSameBitsOnOneAndTwoThreads) {
    const std::int64_t rows = 130, cols = 70;
    const std::vector<float> inv_freq{1.0F, 0.3F, 0.1F, 0.03F, 0.01F};
    std::vector<std::int32_t> positions;
    for (std::int64_t t = 0; t < rows; ++t) positions.push_back(static_cast<std::int32_t>(t));
    const auto run = [&](int threads) {
        const auto backend = make_cpu_backend(threads);
        const DeviceMatrix x(*backend, random_matrix(rows, cols, 1)),
            y(*backend, Shape{rows, cols}), gain(*backend, random_matrix(1, cols, 2)),
            dx(*backend, random_matrix(rows, cols, 3));
        backend->rms_norm(y.view(), x.view(), dx.view(), gain.floats(), 1e-5F);
        backend->rms_norm_backward(dx.view(), y.view(), x.view(), gain.floats(), 1e-5F);
        backend->rope(dx.view(), 7, {positions, inv_freq}, false);
        backend->swiglu(y.view(), x.view(), dx.view());
        return y.values();
    };
    EXPECT_TRUE(same_bits(run(1), run(2)));
}

TEST(CpuBackend, ZeroThreadsAreRefused) {
    EXPECT_THROW(make_cpu_backend(0), InputError);
}

}  // namespace
}  // namespace fedit::test
