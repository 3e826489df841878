// tensor/cuda_devices.h: the CUDA devices that this process sees, found without using any of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fedit/tensor/backend.h"

namespace fedit {

struct CudaDevice {
    DeviceInfo info;
    int processors = 0;  ///< the bits of products may depend on their number
};

/// What there is of CUDA. A device's place in `devices` is its number for make_cuda_backend().
struct CudaDevices {
    std::vector<CudaDevice> devices;
    std::string driver;     ///< newest CUDA that the driver runs, "13.0"; empty without a driver
    std::string libraries;  ///< "CUDA 13.0, cuBLASLt 13.1.0"; empty in a build without CUDA
    std::string trouble;    ///< why there is no device; empty where there is one
    std::string remedy;     ///< what to do about it
};

/// Asks the driver; makes no context on any device, so that it costs a GPU no memory.
CudaDevices find_cuda_devices();

/// Host memory that loading CUDA's libraries takes, whatever device computes: an upper bound of
/// what was measured (tests/app/memory_plan_test.cpp). 0 in a build without CUDA.
std::int64_t cuda_library_bytes();

/// When an operation's fault inside a kernel is thrown.
enum class CudaErrors {
    late,    ///< by a later call: the host never waits for its sake
    at_once  ///< by the operation itself, which waits for its kernels: for tests
};

/// As make_cuda_backend(device), which is `late`.
std::unique_ptr<Backend> make_cuda_backend(int device, CudaErrors errors, int threads = 1);

}  // namespace fedit
