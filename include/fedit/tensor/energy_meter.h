// tensor/energy_meter.h: the energy that a GPU takes, where its driver counts it.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace fedit {

/// A counter of NVML, the driver's own library. It is looked for when the program runs, so builds
/// need neither it nor its headers, and a machine without it has figures without joules.
class EnergyMeter {
public:
    /// Of the GPU that DeviceInfo::device_id names. Where there is no such library, or it does not
    /// know this device (the CPU, a part of a card), the meter tells nothing; nothing is thrown.
    explicit EnergyMeter(const std::string& device_id,
                         const std::string& library = "libnvidia-ml.so.1");
    ~EnergyMeter();
    EnergyMeter(const EnergyMeter&) = delete;
    EnergyMeter& operator=(const EnergyMeter&) = delete;

    /// Joules that the whole card has taken since its driver was loaded, in steps of 1 mJ; nothing
    /// where the card does not count (before Volta).
    std::optional<double> joules() const;

private:
    struct Nvml;
    std::unique_ptr<Nvml> nvml_;  ///< null: there is nothing to ask
};

}  // namespace fedit
