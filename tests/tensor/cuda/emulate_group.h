// tests/tensor/cuda/emulate_group.h: the names of tensor/cuda/group_mma.cuh, for emulate.h.
//
// A product is made when it is waited for, from what shared memory holds then; until that its sums
// lack it. Each warp of a group makes its own rows, as on a GPU. What lies between two kinds of
// access to shared memory on a GPU (its proxies) is not emulated.
#pragma once

#include "tests/tensor/cuda/emulate.h"

namespace fedit::cuda {

inline void show_to_group_mma() {}
template <class Registers>
void hold(Registers& /*x*/) {}
inline void sync_group(int /*group*/) {
    sync_warp();
}

inline void start_group_products() {}
inline void commit_group_products() {
    emulate::commit_products();
}
template <int pending>
void wait_for_group_products() {
    emulate::finish_products(pending);
}

/// Element (row, column) of rows of 64 whose vectors of 16 bytes are swizzled by their address:
/// bits 7 to 9 change bits 4 to 6.
inline float swizzled(const Bf16* rows, int row, int column) {
    auto address = reinterpret_cast<std::uintptr_t>(rows + row * 64 + column);
    address ^= (address >> 7 & 7) << 4;
    return to_float(*reinterpret_cast<const Bf16*>(address));
}

/// c of a product of 16 columns, NaN until it is made unless it adds.
class GroupProduct {
public:
    GroupProduct(float (*c)[4], bool add) : c_(c), add_(add) {
        for (int n = 0; n < 8 && !add; ++n) {
            for (int i = 0; i < 4; ++i) c[n][i] = std::numeric_limits<float>::quiet_NaN();
        }
    }

    /// left(row, k) of the warp's 16 rows, right(column, k).
    template <class Left, class Right>
    void make(const Left& left, const Right& right) const {
        const int row = lane_ / 4, column = lane_ % 4 * 2;
        for (int n = 0; n < 8; ++n) {
            for (int i = 0; i < 4; ++i) {
                float sum = add_ ? c_[n][i] : 0;
                for (int k = 0; k < 16; ++k) {
                    sum += left(row + 8 * (i / 2), k) * right(8 * n + column + i % 2, k);
                }
                c_[n][i] = sum;
            }
        }
    }

private:
    float (*c_)[4];
    bool add_;
    int lane_ = emulate::lane();
};

inline void group_mma(float (&c)[8][4], const Bf16* a, const Bf16* b, bool add) {
    const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
    emulate::start_product([product = GroupProduct(c, add), a, b, warp] {
        product.make([&](int row, int k) { return swizzled(a, 16 * warp + row, k); },
                     [&](int column, int k) { return swizzled(b, column, k); });
    });
}

template <int N>
void group_mma(float (&c)[N][4], int n, const std::uint32_t (&a)[4], const Bf16* b) {
    struct Fragment {
        std::uint32_t words[4];
    };
    const auto all = emulate::exchange(Fragment{{a[0], a[1], a[2], a[3]}});
    emulate::start_product([product = GroupProduct(c + n, true), all, b] {
        const auto left = [&](int row, int k) {
            const Fragment& fragment = all[static_cast<std::size_t>(4 * (row % 8) + k % 8 / 2)];
            return half_of(fragment.words[row / 8 + 2 * (k / 8)], k % 2);
        };
        product.make(left, [&](int column, int k) { return swizzled(b, k, column); });
    });
}

}  // namespace fedit::cuda
