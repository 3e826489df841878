// tensor/cpu/cpu_backend.cpp: what this CPU is, and its memory.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/cpu_backend.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

const char* InstructionSet() {
    return hwy::TargetName(HWY_TARGET);
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "fedit/core/error.h"
#include "fedit/tensor/cuda_devices.h"
#include "tensor/cpu/cpu_backend.h"

namespace fedit::cpu {

HWY_EXPORT(InstructionSet);

namespace {

/// "model name" of the first core, as Linux tells it.
std::string cpu_model() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with("model name")) continue;
        const std::size_t begin = line.find(": ");
        if (begin != std::string::npos) return line.substr(begin + 2);
    }
    return "unknown CPU";
}

/// The program with its libraries, a chunk of logits, and what products and attention pack: an
/// upper bound of what was measured (tests/app/memory_plan_test.cpp).
std::int64_t overhead_bytes(int threads) {
    constexpr std::int64_t mib = std::int64_t{1} << 20;
    return (32 + 32 + 8 * threads) * mib + cuda_library_bytes();
}

[[noreturn]] void refuse_to_share() {
    throw RunError({.what = "memory of the CPU back end is not shared block by block",
                    .where = "the tensor back end",
                    .remedy = "this is a mistake in fedit: share it by Communicator::share"});
}

}  // namespace

CpuBackend::CpuBackend(int threads, ProductChoice choice)
    : threads_(threads), products_(threads, choice) {
    if (threads < 1) {
        throw InputError({.what = "the CPU back end needs at least one thread",
                          .where = "--threads " + std::to_string(threads),
                          .remedy = "give 1 or more"});
    }
}

DeviceInfo CpuBackend::info() const {
    const ProductChoice choice = products_.choice();
    return {.kind = "cpu",
            .model = cpu_model(),
            .instruction_set = HWY_DYNAMIC_DISPATCH(InstructionSet)(),
            .libraries = product_library(choice),
            .bf16 = is_native(choice.bf16),
            .memory_bytes = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) *
                            static_cast<std::int64_t>(sysconf(_SC_PAGESIZE)),
            .host_memory = true,
            .overhead_bytes = overhead_bytes(threads_)};
}

Dtype CpuBackend::activation_dtype(Dtype /*products*/) const {
    return Dtype::fp32;
}

Operands CpuBackend::operands_for(Dtype products) const {
    if (products == Dtype::fp32) return Operands::fp32;
    return is_native(products_.choice().bf16) ? Operands::bf16 : Operands::emulated_bf16;
}

void* CpuBackend::allocate(std::size_t bytes) {
    return allocate_aligned(bytes).release();
}

void CpuBackend::release(void* memory) noexcept {
    FreeAligned()(static_cast<std::byte*>(memory));
}

void CpuBackend::upload(void* to, std::span<const std::byte> from) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
}

void CpuBackend::download(std::span<std::byte> to, const void* from) {
    if (!to.empty()) std::memcpy(to.data(), from, to.size());
}

std::vector<std::byte> CpuBackend::export_memory(void* /*memory*/) {
    refuse_to_share();
}

void* CpuBackend::import_memory(std::span<const std::byte> /*handle*/) {
    refuse_to_share();
}

}  // namespace fedit::cpu

namespace fedit {

std::unique_ptr<Backend> make_cpu_backend(int threads) {
    return std::make_unique<cpu::CpuBackend>(threads);
}

}  // namespace fedit
#endif
