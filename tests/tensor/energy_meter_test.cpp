// tests/tensor/energy_meter_test.cpp: joules where a driver counts them, and silence elsewhere.
#include "fedit/tensor/energy_meter.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>

namespace fedit {
namespace {

const std::string stand_in = NVML_STAND_IN;

/// Sessions of the stand-in that were begun and not ended.
int open_sessions() {
    static void* const library = dlopen(stand_in.c_str(), RTLD_NOW);
    return reinterpret_cast<int (*)()>(dlsym(library, "stand_in_sessions"))();
}

TEST(EnergyMeter, TellsTheJoulesOfItsCard) {
    const EnergyMeter meter("GPU-counts", stand_in);
    const auto before = meter.joules(), after = meter.joules();
    ASSERT_TRUE(before && after);
    EXPECT_GT(*before, 1);
    EXPECT_NEAR(*after - *before, 1.5, 1e-9);
}

TEST(EnergyMeter, IsSilentWhereACardDoesNotCount) {
    EXPECT_FALSE(EnergyMeter("GPU-old", stand_in).joules());
}

TEST(EnergyMeter, IsSilentWhereNobodyCanBeAsked) {
    EXPECT_FALSE(EnergyMeter("", stand_in).joules()) << "the CPU";
    EXPECT_FALSE(EnergyMeter("GPU-unknown", stand_in).joules());
    EXPECT_FALSE(EnergyMeter("GPU-counts", "libfedit-no-such-library.so").joules());
    EXPECT_FALSE(EnergyMeter("GPU-counts", "libc.so.6").joules()) << "a library without NVML in it";
}

TEST(EnergyMeter, EndsWhatItBegan) {
    ASSERT_EQ(open_sessions(), 0);
    {
        const EnergyMeter meter("GPU-counts", stand_in), unknown("GPU-unknown", stand_in);
        EXPECT_EQ(open_sessions(), 1) << "the other has ended already";
    }
    EXPECT_EQ(open_sessions(), 0);
}

}  // namespace
}  // namespace fedit
