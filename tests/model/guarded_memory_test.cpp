// tests/model/guarded_memory_test.cpp: the guard itself: what it catches, and how processes share
// its blocks.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>

#include "tests/support/backends.h"

namespace fedit::test {
namespace {

TEST(GuardedMemoryDeathTest, AHostThatTouchesItCrashes) {
    GuardedBackend backend;
    const DeviceBuffer block(backend, 64);
    EXPECT_DEATH(std::memset(block.data(), 0, 4), "");
    EXPECT_DEATH(static_cast<void>(*static_cast<volatile std::byte*>(block.data())), "");
}

TEST(GuardedMemory, OperandsInTheWrongMemoryAreRefused) {
    GuardedBackend backend;
    std::vector<float> host(4, 1.0F);
    const DeviceVector device(backend, host);
    EXPECT_THROW(backend.fill(host, 0), std::logic_error);
    EXPECT_THROW(backend.fill({device.data(), 5}, 0), std::logic_error) << "beyond its end";
    const TensorView row = fp32_view(device.data(), 1, 4);
    const auto* bits = reinterpret_cast<const std::int64_t*>(device.data());
    EXPECT_THROW(backend.gather_rows(row, row, {bits, 1}), std::logic_error);
    EXPECT_THROW(backend.rms_norm(row, row, {}, host.data(), 0), std::logic_error);
    TensorView half = row;
    half.dtype = Dtype::bf16;
    EXPECT_THROW(backend.swiglu(half, half, half), std::logic_error) << "activations are fp32";
    EXPECT_EQ(device.values(), host);
}

TEST(GuardedMemory, IsFullOfNanAtFirst) {
    GuardedBackend backend;
    const DeviceBuffer block(backend, 8);
    std::vector<float> values(2);
    backend.download(std::as_writable_bytes(std::span(values)), block.data());
    EXPECT_TRUE(std::isnan(values[0]) && std::isnan(values[1]));
    EXPECT_EQ(backend.waits(), 1);
}

TEST(GuardedMemory, Bf16ActivationsAreRoundedToNearestEven) {
    GuardedBackend backend(1, Dtype::bf16);
    // 1 + 2^-8 lies between two bf16 numbers, and so does 1 + 3 2^-8: ties go to the even one.
    const std::vector<float> table{1 + 0x1p-8F, 1 + 0x3p-8F, -2.0F, 1 + 0x1.2p-8F};
    const DeviceVector values(backend, table);
    const DeviceBuffer rows(backend, 8);
    const std::vector<std::int32_t> tokens{0};
    backend.embedding(dense_view(rows.data(), Dtype::bf16, 1, 4), fp32_view(values.data(), 1, 4),
                      tokens);
    std::vector<std::uint16_t> bits(4);
    backend.download(std::as_writable_bytes(std::span(bits)), rows.data());
    EXPECT_EQ(bits, (std::vector<std::uint16_t>{0x3f80, 0x3f82, 0xc000, 0x3f81}));
}

TEST(GuardedMemory, AnotherProcessMapsAnExportedBlock) {
    GuardedBackend backend;
    const std::vector<float> values{1, 2, 3};
    const DeviceVector block(backend, values);
    const std::vector<std::byte> handle = backend.export_memory(block.data());
    const pid_t child = fork();
    if (child == 0) {
        GuardedBackend other;
        const DeviceBuffer mapped(other, handle, values.size() * sizeof(float));
        std::vector<float> seen(values.size());
        other.download(std::as_writable_bytes(std::span(seen)), mapped.data());
        _exit(seen == values ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace fedit::test
