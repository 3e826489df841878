// tensor/energy_meter.cpp: asks NVML, found by dlopen, for a GPU's energy counter.
#include "fedit/tensor/energy_meter.h"

#include <dlfcn.h>

namespace fedit {

namespace {

/// NVML_SUCCESS; all of its functions return an int.
constexpr int success = 0;

struct CloseLibrary {
    void operator()(void* library) const { dlclose(library); }
};

}  // namespace

struct EnergyMeter::Nvml {
    // Signatures of nvml.h.
    using Init = int();
    using Shutdown = int();
    using DeviceByUuid = int(const char* uuid, void** device);
    using TotalEnergy = int(void* device, unsigned long long* millijoules);

    std::unique_ptr<void, CloseLibrary> library;
    Shutdown* shutdown = nullptr;
    TotalEnergy* total_energy = nullptr;
    void* device = nullptr;

    Nvml() = default;
    ~Nvml() {
        if (shutdown != nullptr) shutdown();
    }
    Nvml(const Nvml&) = delete;
    Nvml& operator=(const Nvml&) = delete;

    template <class Function>
    Function* find(const char* name) const {
        return reinterpret_cast<Function*>(dlsym(library.get(), name));
    }

    /// Whether this device can be asked.
    bool open(const std::string& device_id, const std::string& name) {
        library.reset(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL));
        if (library == nullptr) return false;
        auto* const init = find<Init>("nvmlInit_v2");
        auto* const end = find<Shutdown>("nvmlShutdown");
        auto* const by_uuid = find<DeviceByUuid>("nvmlDeviceGetHandleByUUID");
        total_energy = find<TotalEnergy>("nvmlDeviceGetTotalEnergyConsumption");
        if (init == nullptr || end == nullptr || by_uuid == nullptr || total_energy == nullptr) {
            return false;
        }
        if (init() != success) return false;
        shutdown = end;
        return by_uuid(device_id.c_str(), &device) == success;
    }
};

EnergyMeter::EnergyMeter(const std::string& device_id, const std::string& library) {
    if (device_id.empty()) return;
    auto nvml = std::make_unique<Nvml>();
    if (nvml->open(device_id, library)) nvml_ = std::move(nvml);
}

EnergyMeter::~EnergyMeter() = default;

std::optional<double> EnergyMeter::joules() const {
    if (nvml_ == nullptr) return std::nullopt;
    unsigned long long millijoules = 0;
    if (nvml_->total_energy(nvml_->device, &millijoules) != success) return std::nullopt;
    return 1e-3 * static_cast<double>(millijoules);
}

}  // namespace fedit
