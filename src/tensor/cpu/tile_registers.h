// tensor/cpu/tile_registers.h: the tile registers of AMX, and the same in plain C++ for tests on
// any CPU.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fedit::cpu {

/// Rows of a tile, and its columns: 32-bit words, an fp32 sum or two bf16 numbers along the depth.
inline constexpr std::int64_t tile_size = 16;

/// Eight registers of 16 x 16 words by AMX's instructions; to be made by the thread that uses them,
/// only where has_amx() (tile_products.h). Rows in memory are `stride` bytes apart.
#if defined(__x86_64__)
class AmxTiles {
public:
    AmxTiles() {
        struct alignas(64) {
            std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
            std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } const shapes;
        asm volatile("ldtilecfg %0" : : "m"(shapes));
    }
    ~AmxTiles() { asm volatile("tilerelease"); }
    AmxTiles(const AmxTiles&) = delete;
    AmxTiles& operator=(const AmxTiles&) = delete;

    template <int tile>
    void zero() {
        asm volatile("tilezero %%tmm%c0" : : "i"(tile));
    }
    template <int tile>
    void load(const void* from, std::int64_t stride) {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
                     :
                     : "r"(from), "r"(stride), "i"(tile)
                     : "memory");
    }
    template <int tile>
    void store(void* to, std::int64_t stride) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
                     :
                     : "r"(to), "r"(stride), "i"(tile)
                     : "memory");
    }
    /// sum (fp32) += left (rows of words along the depth) right (a word of the depth a row).
    template <int sum, int left, int right>
    void multiply() {
        asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(left), "i"(right));
    }
};
#endif

/// The same registers, with the roundings that Intel's manual gives for TDPBF16PS: the first and
/// the second numbers of the words are added apart, each product exactly rounded, then both to the
/// sum.
class EmulatedTiles {
public:
    template <int tile>
    void zero() {
        std::memset(tiles_[tile], 0, sizeof tiles_[tile]);
    }
    template <int tile>
    void load(const void* from, std::int64_t stride) {
        for (std::int64_t i = 0; i < tile_size; ++i) {
            std::memcpy(tiles_[tile][i], static_cast<const std::byte*>(from) + i * stride,
                        row_bytes);
        }
    }
    template <int tile>
    void store(void* to, std::int64_t stride) {
        for (std::int64_t i = 0; i < tile_size; ++i) {
            std::memcpy(static_cast<std::byte*>(to) + i * stride, tiles_[tile][i], row_bytes);
        }
    }
    template <int sum, int left, int right>
    void multiply() {
        for (std::int64_t i = 0; i < tile_size; ++i) {
            float first[tile_size] = {}, second[tile_size] = {};
            for (std::int64_t p = 0; p < tile_size; ++p) {
                const std::uint32_t a = tiles_[left][i][p];
                for (std::int64_t j = 0; j < tile_size; ++j) {
                    const std::uint32_t b = tiles_[right][p][j];
                    first[j] = std::fma(to_float(a << 16), to_float(b << 16), first[j]);
                    second[j] = std::fma(to_float(a & upper), to_float(b & upper), second[j]);
                }
            }
            for (std::int64_t j = 0; j < tile_size; ++j) {
                const float total = to_float(tiles_[sum][i][j]) + (first[j] + second[j]);
                std::memcpy(&tiles_[sum][i][j], &total, sizeof total);
            }
        }
    }

private:
    static constexpr std::size_t row_bytes = tile_size * sizeof(std::uint32_t);
    static constexpr std::uint32_t upper = 0xFFFF0000U;

    static float to_float(std::uint32_t bits) {
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }

    std::uint32_t tiles_[8][tile_size][tile_size] = {};
};

#if !defined(__x86_64__)
using AmxTiles = EmulatedTiles;
#endif

}  // namespace fedit::cpu
