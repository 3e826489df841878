// tensor/cuda/handles.h: what CUDA hands out, each owned by one object: streams, events, memory of
// the device and pinned memory of the host.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>
#include <utility>

#include "tensor/cuda/check.h"

namespace fedit::cuda {

/// Owns one handle of CUDA; null owns nothing. A release that fails repeats an error that a call
/// has already thrown, so its status is not looked at.
template <class T, cudaError_t (*release)(T)>
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

static_assert(!std::is_copy_constructible_v<Stream>);
static_assert(std::is_nothrow_move_constructible_v<Stream>);

/// A stream that does not wait for the null stream. Throws RunError, as all below.
inline Stream make_stream() {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream");
    return Stream(stream);
}

enum class Timing : bool { without, with };

/// An event; one that was never recorded counts as reached.
inline Event make_event(Timing timing) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(
              &event, timing == Timing::with ? cudaEventDefault : cudaEventDisableTiming),
          "make an event");
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

}  // namespace fedit::cuda
