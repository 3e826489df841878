// tensor/cuda/handles.h: what CUDA and cuBLASLt hand out, each owned by one object.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "tensor/cuda/check.h"

namespace fedit::cuda {

/// Owns one handle; null owns nothing. A release that fails repeats an error that a call has
/// already thrown, so its status is not looked at.
template <class T, auto release>
class Handle {
public:
    Handle() = default;
    explicit Handle(T handle) noexcept : handle_(handle) {}
    Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle& operator=(Handle&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Handle() {
        if (handle_ != nullptr) static_cast<void>(release(handle_));
    }
    T get() const noexcept { return handle_; }

private:
    T handle_ = nullptr;
};

using Stream = Handle<cudaStream_t, cudaStreamDestroy>;
using Event = Handle<cudaEvent_t, cudaEventDestroy>;
using DeviceMemory = Handle<void*, cudaFree>;
using PinnedMemory = Handle<void*, cudaFreeHost>;
using LtHandle = Handle<cublasLtHandle_t, cublasLtDestroy>;
using LtOperation = Handle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using LtLayout = Handle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using LtPreference = Handle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

static_assert(!std::is_copy_constructible_v<Stream>);
static_assert(std::is_nothrow_move_constructible_v<Stream>);

/// A stream that does not wait for the null stream. Throws RunError, as all below.
inline Stream make_stream() {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream");
    return Stream(stream);
}

/// An event that tells no time; one that was never recorded counts as reached.
inline Event make_event() {
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "make an event");
    return Event(event);
}

/// At least one byte of device memory, 256-byte aligned, not initialised.
inline DeviceMemory allocate_device(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes == 0 ? 1 : bytes), "allocate device memory");
    return DeviceMemory(memory);
}

/// Host memory that the device reads and writes by itself while the host goes on.
inline PinnedMemory allocate_pinned(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes == 0 ? 1 : bytes), "allocate pinned memory");
    return PinnedMemory(memory);
}

/// Device memory that grows to the largest request; what it held is lost then. For work of one
/// stream: to free waits for the device.
class DeviceScratch {
public:
    std::byte* bytes(std::size_t count) {
        if (count > size_) {
            memory_ = DeviceMemory();
            size_ = 0;
            memory_ = allocate_device(count);
            size_ = count;
        }
        return static_cast<std::byte*>(memory_.get());
    }
    template <class T>
    T* array(std::int64_t count) {
        return reinterpret_cast<T*>(bytes(static_cast<std::size_t>(count) * sizeof(T)));
    }

private:
    DeviceMemory memory_;
    std::size_t size_ = 0;
};

}  // namespace fedit::cuda
