// tensor/cuda/cuda_backend.cpp: the device, and its memory.
#include "tensor/cuda/cuda_backend.h"

#include <cstring>

#include "fedit/core/error.h"
#include "tensor/cuda/devices.h"
#include "tensor/cuda/kernels.h"

namespace fedit::cuda {

namespace {

/// What the context and the code of kernels take, as far as a plan can know it beforehand.
constexpr std::int64_t context_bytes = std::int64_t{1} << 30;

CudaDevice take_device(int device) {
    require_device(device);
    check(cudaSetDevice(device), "choose a CUDA device");
    return describe_device(device);
}

}  // namespace

CudaBackend::CudaBackend(int device, CudaErrors errors, int threads)
    : errors_(errors),
      device_(take_device(device)),
      stream_(make_stream()),
      staging_(stream(), threads),
      arrays_(staging_),
      products_(stream()) {}

DeviceInfo CudaBackend::info() const {
    DeviceInfo info = device_.info;
    info.overhead_bytes = context_bytes + static_cast<std::int64_t>(Products::workspace_bytes);
    return info;
}

void* CudaBackend::allocate(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes == 0 ? 1 : bytes), "allocate device memory");
    return memory;
}

void CudaBackend::release(void* memory) noexcept {
    // As in Handle: a release that fails repeats an error that has been thrown.
    if (imported_.erase(memory) > 0) {
        // Unlike cudaFree it is not said to wait for kernels that still read.
        static_cast<void>(cudaStreamSynchronize(stream()));
        static_cast<void>(cudaIpcCloseMemHandle(memory));
    } else {
        static_cast<void>(cudaFree(memory));
    }
}

void CudaBackend::upload(void* to, std::span<const std::byte> from) {
    staging_.upload(to, from);
    finish("upload");
}

void CudaBackend::download(std::span<std::byte> to, const void* from) {
    staging_.download(to, from);
}

std::vector<std::byte> CudaBackend::export_memory(void* memory) {
    check(cudaStreamSynchronize(stream()), "wait for memory that will be shared");
    cudaIpcMemHandle_t handle{};
    check(cudaIpcGetMemHandle(&handle, memory), "share device memory with other processes");
    const auto bytes = std::as_bytes(std::span(&handle, 1));
    return {bytes.begin(), bytes.end()};
}

void* CudaBackend::import_memory(std::span<const std::byte> handle) {
    cudaIpcMemHandle_t ours{};
    if (handle.size() != sizeof ours) {
        throw RunError({.what = "shared device memory came with a handle of " +
                                std::to_string(handle.size()) + " bytes",
                        .where = "a handle has " + std::to_string(sizeof ours),
                        .remedy = "start the same build of fedit on all ranks"});
    }
    std::memcpy(&ours, handle.data(), sizeof ours);
    void* memory = nullptr;
    check(cudaIpcOpenMemHandle(&memory, ours, cudaIpcMemLazyEnablePeerAccess),
          "map device memory of another process");
    imported_.insert(memory);
    return memory;
}

TensorView CudaBackend::in_dtype(TensorView x, Dtype dtype, DeviceScratch& scratch) {
    if (x.dtype == dtype) return x;
    const std::int64_t stride = (x.cols + 7) / 8 * 8;
    const TensorView copy{scratch.bytes(static_cast<std::size_t>(x.rows * stride) * size_of(dtype)),
                          dtype, x.rows, x.cols, stride};
    convert(copy, x, stream());
    return copy;
}

}  // namespace fedit::cuda

namespace fedit {

std::unique_ptr<Backend> make_cuda_backend(int device, CudaErrors errors, int threads) {
    return std::make_unique<cuda::CudaBackend>(device, errors, threads);
}

std::unique_ptr<Backend> make_cuda_backend(int device, int threads) {
    return make_cuda_backend(device, CudaErrors::late, threads);
}

}  // namespace fedit
