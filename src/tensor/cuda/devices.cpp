// tensor/cuda/devices.cpp: finds and describes devices through the CUDA runtime.
#include "tensor/cuda/devices.h"

#include <fmt/format.h>

#include "fedit/core/error.h"
#include "tensor/cuda/check.h"

namespace fedit {

namespace {

/// Tensor cores multiply bf16 from this compute capability on.
constexpr int oldest_major = 8;

constexpr int runtime_version = CUDART_VERSION;

/// "13.0" of CUDA's 13000.
std::string version_text(int version) {
    return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

/// "GPU-5a3c1f02-...", as nvidia-smi spells it; a part of a card (MIG) has one of its own.
std::string uuid_text(const cudaUUID_t& uuid) {
    std::string text = "GPU";
    for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
        if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
    }
    return text;
}

/// 0 without a driver.
int driver_version() {
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

/// Devices, or the status that says why there are none.
cudaError_t count_devices(int& count) {
    count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count == 0) return cudaErrorNoDevice;
    if (status != cudaSuccess) cudaGetLastError();
    return status;
}

void explain(CudaDevices& found, cudaError_t status, int driver) {
    if (driver == 0) {
        found.trouble = "this machine has no CUDA driver";
        found.remedy = "use --device cpu, or run on a machine with an NVIDIA GPU and its driver";
    } else if (status == cudaErrorInsufficientDriver) {
        found.trouble = fmt::format("the driver runs CUDA {}, and this build needs {}",
                                    version_text(driver), version_text(runtime_version));
        found.remedy = "update the driver, or build fedit with an older toolkit";
    } else if (status == cudaErrorNoDevice) {
        found.trouble = "the CUDA driver shows this process no device";
        found.remedy =
            "ask the batch system for a GPU (--gres=gpu:1), and look at CUDA_VISIBLE_DEVICES";
    } else {
        found.trouble = fmt::format("CUDA cannot start: {}", cudaGetErrorString(status));
        found.remedy = "see whether nvidia-smi works; the driver may have to be loaded again";
    }
}

}  // namespace

namespace cuda {

std::string libraries() {
    const std::size_t lt = cublasLtGetVersion();
    int version = 0;
    check(cudaRuntimeGetVersion(&version), "ask for the version of CUDA");
    return fmt::format("CUDA {}, cuBLASLt {}.{}.{}", version_text(version), lt / 10000,
                       lt / 100 % 100, lt % 100);
}

CudaDevice describe_device(int device) {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, device), "describe a CUDA device");
    return {.info = {.kind = "cuda",
                     .model = properties.name,
                     .instruction_set = fmt::format("sm_{}{}", properties.major, properties.minor),
                     .libraries = libraries(),
                     .bf16 = properties.major >= oldest_major,
                     .memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem),
                     .device_id = uuid_text(properties.uuid),
                     .bus_id = fmt::format("{:04x}:{:02x}:{:02x}", properties.pciDomainID,
                                           properties.pciBusID, properties.pciDeviceID)},
            .processors = properties.multiProcessorCount};
}

void require_device(int device) {
    const std::string where = fmt::format("--device cuda (device {})", device);
    CudaDevices found = find_cuda_devices();
    const auto count = static_cast<int>(found.devices.size());
    if (count == 0) {
        throw InputError(
            {.what = std::move(found.trouble), .where = where, .remedy = std::move(found.remedy)});
    }
    if (device < 0 || device >= count) {
        throw InputError(
            {.what = fmt::format("there is no CUDA device {}: this process sees {}", device, count),
             .where = where,
             .remedy = "start one rank for each GPU of a node, and look at "
                       "CUDA_VISIBLE_DEVICES"});
    }
    const DeviceInfo& info = found.devices[static_cast<std::size_t>(device)].info;
    if (!info.bf16) {
        throw InputError(
            {.what = fmt::format("{} ({}) is too old: the kernels need sm_{}0 or later", info.model,
                                 info.instruction_set, oldest_major),
             .where = where,
             .remedy = "use --device cpu, or a newer GPU"});
    }
}

}  // namespace cuda

CudaDevices find_cuda_devices() {
    CudaDevices found;
    found.libraries = cuda::libraries();
    const int driver = driver_version();
    if (driver > 0) found.driver = version_text(driver);
    int count = 0;
    if (const cudaError_t status = count_devices(count); status != cudaSuccess) {
        explain(found, status, driver);
        return found;
    }
    for (int device = 0; device < count; ++device) {
        found.devices.push_back(cuda::describe_device(device));
    }
    return found;
}

std::int64_t cuda_library_bytes() {
    return std::int64_t{160} << 20;
}

int cuda_device_count() {
    int count = 0;
    return count_devices(count) == cudaSuccess ? count : 0;
}

}  // namespace fedit
