// tests/support/nvml_stand_in.cpp: a library with those functions of NVML that EnergyMeter calls.
// Its cards: GPU-counts takes 1.5 J between two questions, GPU-old does not count.
#include <cstring>

namespace {

constexpr int success = 0, not_supported = 3, not_found = 6;

int sessions = 0;
unsigned long long millijoules = 1000;
int counts = 0, old = 0;  // their addresses are the handles

}  // namespace

extern "C" {

/// How often NVML was begun and not ended.
int stand_in_sessions() {
    return sessions;
}

int nvmlInit_v2() {
    ++sessions;
    return success;
}

int nvmlShutdown() {
    --sessions;
    return success;
}

int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
    if (std::strcmp(uuid, "GPU-counts") == 0) {
        *device = &counts;
    } else if (std::strcmp(uuid, "GPU-old") == 0) {
        *device = &old;
    } else {
        return not_found;
    }
    return success;
}

int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* energy) {
    if (device != &counts) return not_supported;
    millijoules += 1500;
    *energy = millijoules;
    return success;
}
}
