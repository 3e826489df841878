// io/stored_floats.cpp: turns stored numbers into floats and finds those that are not finite, in
// one pass, on several threads.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "fedit/core/error.h"
#include "fedit/core/parallel.h"
#include "fedit/io/safetensors.h"

namespace fedit {

namespace {

/// What a thread takes at once, and what it looks over before it may stop.
constexpr std::int64_t block = std::int64_t{64} << 10;

template <class Bits>
Bits bits_at(const std::byte* from, std::int64_t i) {
    Bits bits;  // numbers may lie at any address
    std::memcpy(&bits, from + i * static_cast<std::int64_t>(sizeof bits), sizeof bits);
    return bits;
}

/// Infinite or NaN: all bits of the exponent are set. As wide as the number, so that as many are
/// looked at at once as fit into a vector.
template <class Bits, Bits exponent>
struct Format {
    using Stored = Bits;
    static Bits is_bad(Bits bits) { return (bits & exponent) == exponent ? Bits{1} : Bits{0}; }
};
struct F32 : Format<std::uint32_t, 0x7f80'0000U> {
    static float widen(std::uint32_t bits) { return std::bit_cast<float>(bits); }
};
struct Bf16 : Format<std::uint16_t, 0x7f80U> {
    static float widen(std::uint16_t bits) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
};
struct F16 : Format<std::uint16_t, 0x7c00U> {
    /// f16_to_float() without a branch: all three cases, and a choice.
    static float widen(std::uint16_t bits) {
        const std::uint32_t magnitude = (bits & 0x7fffU) << 13;
        const float shifted = std::bit_cast<float>(magnitude + (113U << 23));
        const auto subnormal = std::bit_cast<std::uint32_t>(shifted - 0x1p-14F);
        const std::uint32_t is_subnormal = (bits & 0x7c00U) == 0 ? ~0U : 0U;
        const std::uint32_t is_special = (bits & 0x7c00U) == 0x7c00U ? 112U << 23 : 0U;
        const std::uint32_t other = magnitude + (112U << 23) + is_special;
        const std::uint32_t chosen = (subnormal & is_subnormal) | (other & ~is_subnormal);
        return std::bit_cast<float>(chosen | (bits & 0x8000U) << 16);
    }
};

/// Calls use(i, bits) for each number; the place of the first that is not finite.
template <class F, class Use>
std::int64_t find_bad(const std::byte* from, std::int64_t count, int threads, const Use& use) {
    using Stored = typename F::Stored;
    const std::int64_t blocks = (count + block - 1) / block;
    std::atomic<std::int64_t> first{blocks};
    run_parallel(threads, blocks, [&](std::int64_t b) {
        const std::int64_t end = std::min(count, (b + 1) * block);
        Stored bad = 0;  // a block is not left early, so that several are looked at at once
        for (std::int64_t i = b * block; i < end; ++i) {
            const auto bits = bits_at<Stored>(from, i);
            use(i, bits);
            bad |= F::is_bad(bits);
        }
        if (bad == 0) return;
        std::int64_t seen = first.load();
        while (b < seen && !first.compare_exchange_weak(seen, b)) {
        }
    });
    std::int64_t i = std::min(count, first.load() * block);
    while (i < count && F::is_bad(bits_at<Stored>(from, i)) == 0) ++i;
    return i;
}

/// Calls use(format) with the format of a type that can be read as floats.
template <class Use>
std::int64_t with_format(StoredType type, const Use& use) {
    switch (type) {
        case StoredType::f32:
            return use(F32());
        case StoredType::bf16:
            return use(Bf16());
        case StoredType::f16:
            return use(F16());
        default:
            throw InputError({.what = "elements of type " + std::string(to_string(type)) +
                                      " cannot be used as weights",
                              .where = "a tensor's type",
                              .remedy = "convert the tensor to F32, F16 or BF16"});
    }
}

}  // namespace

std::int64_t to_floats(StoredType type, std::span<const std::byte> from, float* to, int threads) {
    const auto count = static_cast<std::int64_t>(from.size() / size_of(type));
    return with_format(type, [&](auto format) {
        using F = decltype(format);
        return find_bad<F>(from.data(), count, threads,
                           [to](std::int64_t i, auto bits) { to[i] = F::widen(bits); });
    });
}

std::int64_t first_not_finite(StoredType type, std::span<const std::byte> from, int threads) {
    const auto count = static_cast<std::int64_t>(from.size() / size_of(type));
    return with_format(type, [&](auto format) {
        return find_bad<decltype(format)>(from.data(), count, threads, [](std::int64_t, auto) {});
    });
}

}  // namespace fedit
