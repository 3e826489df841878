// tests/tensor/cuda_devices_test.cpp: what a build says of CUDA devices, on machines with and
// without them.
#include "fedit/tensor/cuda_devices.h"

#include <gtest/gtest.h>

#include "fedit/core/error.h"

namespace fedit {
namespace {

/// The fault of make_cuda_backend(device), which must refuse.
Fault refusal(int device) {
    try {
        make_cuda_backend(device);
    } catch (const InputError& error) {
        return error.faults().front();
    }
    ADD_FAILURE() << "device " << device << " was accepted";
    return {};
}

TEST(CudaDevices, AreAllDescribedOrTheirAbsenceIsExplained) {
    const CudaDevices found = find_cuda_devices();
    EXPECT_EQ(static_cast<int>(found.devices.size()), cuda_device_count());
    EXPECT_EQ(found.trouble.empty(), !found.devices.empty()) << found.trouble;
    EXPECT_EQ(found.remedy.empty(), !found.devices.empty()) << found.remedy;
    for (const auto& [device, processors] : found.devices) {
        EXPECT_EQ(device.kind, "cuda");
        EXPECT_FALSE(device.model.empty());
        EXPECT_TRUE(device.instruction_set.starts_with("sm_")) << device.instruction_set;
        EXPECT_EQ(device.libraries, found.libraries);
        EXPECT_GT(device.memory_bytes, 0);
        EXPECT_GT(processors, 0);
        EXPECT_FALSE(device.bus_id.empty());
    }
}

TEST(CudaDevices, ADeviceThatIsNotThereIsRefusedWithAReasonAndARemedy) {
    const int beyond = cuda_device_count();
    for (const int device : {beyond, -1}) {
        const Fault fault = refusal(device);
        EXPECT_EQ(fault.where, "--device cuda (device " + std::to_string(device) + ")");
        EXPECT_FALSE(fault.remedy.empty());
        if (beyond == 0) {
            EXPECT_EQ(fault.what, find_cuda_devices().trouble);
        } else {
            EXPECT_NE(fault.what.find(std::to_string(device)), std::string::npos) << fault.what;
        }
    }
}

}  // namespace
}  // namespace fedit
