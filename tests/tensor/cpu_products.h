// tests/tensor/cpu_products.h: CPU back ends of every kind of products, whatever this CPU is.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "tensor/cpu/cpu_backend.h"

namespace fedit::test {

/// fp32 from either layout of weights, and bf16 by the CPU's instructions (emulated where it has
/// none) or emulated.
enum class CpuProducts { panels, blocked, bf16, emulated_bf16 };

inline bool has_bf16_instructions() {
    return cpu::is_native(cpu::ProductChoice::for_this_cpu().bf16);
}

inline Dtype dtype_of(CpuProducts products) {
    return products == CpuProducts::panels || products == CpuProducts::blocked ? Dtype::fp32
                                                                               : Dtype::bf16;
}

inline std::unique_ptr<Backend> cpu_backend_with(CpuProducts products, int threads) {
    cpu::ProductChoice choice;
    if (products == CpuProducts::blocked) choice.layout = cpu::WeightLayout::blocked;
    if (products == CpuProducts::emulated_bf16) choice.bf16 = cpu::Bf16Products::emulated;
    if (products == CpuProducts::bf16) {
        choice = cpu::ProductChoice::for_this_cpu();
        if (!has_bf16_instructions()) choice.bf16 = cpu::Bf16Products::emulated;
    }
    return std::make_unique<cpu::CpuBackend>(threads, choice);
}

inline std::string name_of(CpuProducts products) {
    switch (products) {
        case CpuProducts::panels:
            return "panels";
        case CpuProducts::blocked:
            return "blocked";
        case CpuProducts::bf16:
            return "bf16";
        case CpuProducts::emulated_bf16:
            return "emulated_bf16";
    }
    return "";
}

/// A test of one operation for a Case.
template <class Case>
class OnCpuProducts : public testing::TestWithParam<std::tuple<CpuProducts, Case>> {
protected:
    CpuProducts products() const { return std::get<0>(this->GetParam()); }
    const Case& test_case() const { return std::get<1>(this->GetParam()); }
};

/// Every case with every kind of products.
template <class Case>
auto on_cpu_products(std::initializer_list<Case> cases) {
    return testing::Combine(
        testing::Values(CpuProducts::panels, CpuProducts::bf16, CpuProducts::emulated_bf16),
        testing::ValuesIn(std::vector<Case>(cases)));
}

/// Makes "emulated_bf16_7x64" of a function that names a case "7x64".
template <class NameCase>
auto named_by_products(NameCase name_case) {
    return [name_case](const auto& test) {
        return name_of(std::get<0>(test.param)) + "_" + name_case(std::get<1>(test.param));
    };
}

}  // namespace fedit::test
