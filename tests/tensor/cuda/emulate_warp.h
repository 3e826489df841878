// tests/tensor/cuda/emulate_warp.h: the names of tensor/cuda/warp.cuh, for emulate.h.
#pragma once

namespace fedit::cuda {

using std::max;
using std::min;

// ---- numbers

inline float float_of_bits(std::uint32_t bits) {
    return std::bit_cast<float>(bits);
}
inline std::uint32_t bits_of_float(float x) {
    return std::bit_cast<std::uint32_t>(x);
}
inline float to_float(float x) {
    return x;
}
inline float to_float(Bf16 x) {
    return float_of_bits(static_cast<std::uint32_t>(x.bits) << 16);
}
inline Bf16 to_bf16(float x) {
    if (std::isnan(x)) return {0x7fff};
    const std::uint32_t bits = bits_of_float(x), odd = bits >> 16 & 1;
    return {static_cast<std::uint16_t>((bits + 0x7fff + odd) >> 16)};
}
inline float exp2_approximate(float x) {
    const float y = std::exp2(x);
    return y < std::numeric_limits<float>::min() ? 0.0F : y;
}
inline float reciprocal_approximate(float x) {
    const float y = 1.0F / x;
    return std::abs(y) < std::numeric_limits<float>::min() ? 0.0F : y;
}
inline std::uint32_t pack(float low, float high) {
    return static_cast<std::uint32_t>(to_bf16(low).bits) |
           static_cast<std::uint32_t>(to_bf16(high).bits) << 16;
}
inline float low_half(std::uint32_t packed) {
    return float_of_bits(packed << 16);
}
inline float high_half(std::uint32_t packed) {
    return float_of_bits(packed & 0xffff0000U);
}
inline std::int64_t round_to_integer(double x) {
    return std::llrint(x);
}

// ---- memory

inline uint4 load16(const void* from) {
    emulate::require_aligned(from, 16);
    uint4 value;
    std::memcpy(&value, from, sizeof value);
    return value;
}
inline void store16(void* to, uint4 value) {
    emulate::require_aligned(to, 16);
    std::memcpy(to, &value, sizeof value);
}
inline void load8(float (&x)[2], const float* from) {
    emulate::require_aligned(from, 8);
    std::memcpy(x, from, 8);
}
inline void start_copy16(void* to, const void* from, bool exists) {
    emulate::require_aligned(to, 16);
    emulate::require_aligned(from, 16);
    emulate::start_copy(to, exists ? from : nullptr, 16);
}
inline void start_copy4(float* to, const float* from, bool exists) {
    emulate::start_copy(to, exists ? from : nullptr, sizeof(float));
}
inline void wait_for_copies() {
    emulate::finish_copies();
}
inline void atomic_min(std::uint64_t* at, std::uint64_t value) {
    *at = std::min(*at, value);
}

template <class T, int N>
class SharedArray {
public:
    SharedArray() { emulate::register_shared(&at_, sizeof at_); }
    T& operator[](int i) { return at_.at(static_cast<std::size_t>(i)); }

private:
    std::array<T, N> at_;
};

inline unsigned char* dynamic_shared() {
    return emulate::dynamic_shared_bytes();
}

// ---- warps

inline int own_lane() {
    return emulate::lane();
}
template <class T>
T shfl_xor(T x, int mask) {
    return emulate::exchange(x)[static_cast<std::size_t>(emulate::lane() ^ mask)];
}
template <class T>
T shfl(T x, int lane) {
    return emulate::exchange(x).at(static_cast<std::size_t>(lane));
}
inline void sync_warp() {
    emulate::exchange(0);
}

// ---- tensor cores

inline void ldmatrix(std::uint32_t (&r)[4], const Bf16* row) {
    emulate::require_aligned(row, 16);
    const auto rows = emulate::exchange(row);
    const auto place = static_cast<std::size_t>(emulate::lane() / 4);
    const int column = 2 * (emulate::lane() % 4);
    for (std::size_t i = 0; i < 4; ++i) std::memcpy(&r[i], rows[8 * i + place] + column, 4);
}

inline void ldmatrix_transposed(std::uint32_t (&r)[4], const Bf16* row) {
    emulate::require_aligned(row, 16);
    const auto rows = emulate::exchange(row);
    const int column = emulate::lane() / 4;
    const auto place = static_cast<std::size_t>(2 * (emulate::lane() % 4));
    for (std::size_t i = 0; i < 4; ++i) {
        r[i] = static_cast<std::uint32_t>(rows[8 * i + place][column].bits) |
               static_cast<std::uint32_t>(rows[8 * i + place + 1][column].bits) << 16;
    }
}

inline std::uint32_t transposed(std::uint32_t matrix) {
    const auto all = emulate::exchange(matrix);
    const int column = emulate::lane() / 4, row = 2 * (emulate::lane() % 4);
    const auto element = [&](int i) {
        return all[static_cast<std::size_t>(4 * i + column / 2)] >> (column % 2 * 16) & 0xffffU;
    };
    return element(row) | element(row + 1) << 16;
}

inline float half_of(std::uint32_t packed, int i) {
    return i == 0 ? low_half(packed) : high_half(packed);
}

inline void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
    struct Fragment {
        std::uint32_t a[4], b[2];
    };
    const auto all = emulate::exchange(Fragment{{a[0], a[1], a[2], a[3]}, {b0, b1}});
    const int group = emulate::lane() / 4, quad = emulate::lane() % 4;
    for (int i = 0; i < 4; ++i) {
        const int row = group + 8 * (i / 2), column = 2 * quad + i % 2;
        for (int k = 0; k < 16; ++k) {
            const Fragment& left = all[static_cast<std::size_t>(4 * (row % 8) + k % 8 / 2)];
            const Fragment& right = all[static_cast<std::size_t>(4 * column + k % 8 / 2)];
            c[i] += half_of(left.a[row / 8 + 2 * (k / 8)], k % 2) * half_of(right.b[k / 8], k % 2);
        }
    }
}

}  // namespace fedit::cuda
