// tensor/cpu/tile_products.cpp: two by two tiles of the result stay in registers while two panels
// of the weight pass a block of x, which is rounded into L2 first.
#include "tensor/cpu/tile_products.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>

#include "tensor/cpu/bf16.h"
#include "tensor/cpu/panel_blocks.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/tile_registers.h"

namespace fedit::cpu {

namespace {

/// Rows and columns of the result that are in registers at a time.
constexpr std::int64_t pair = 2 * tile_size;
/// Words of the depth that are multiplied before the next columns: of 128 to 512 the fastest.
constexpr std::int64_t tile_block_depth = 512;
/// Bytes between rows of a panel, and of a tile that was loaded from it.
constexpr std::int64_t panel_row_bytes = tile_size * sizeof(std::uint32_t);

constexpr std::int64_t round_up(std::int64_t count, std::int64_t step) {
    return (count + step - 1) / step * step;
}
/// Words of a panel's depth: whole tiles, the last filled up with zeros.
constexpr std::int64_t depth_words(std::int64_t depth) {
    return round_up((depth + 1) / 2, tile_size);
}

/// A block of x in bf16, as rows of words that fill tiles: zeros behind the last column and below
/// the last row.
struct Left {
    std::uint32_t* words;
    /// Words between rows: a line more than they fill, since rows a multiple of 4 KiB apart share a
    /// few lines of L1.
    static constexpr std::int64_t stride = tile_block_depth + tile_size;
    static constexpr std::int64_t size = round_up(panel_block_rows, pair) * stride;

    std::uint32_t* row(std::int64_t i) const { return words + i * stride; }
};

/// Panels of tile_size columns each, `depth` words deep.
struct Right {
    const std::uint32_t* words;
    std::int64_t depth;

    const std::uint32_t* panel(std::int64_t col, std::int64_t word) const {
        return words + (col / tile_size * depth + word) * tile_size;
    }
};

/// Part of the depth, in words.
struct Depth {
    std::int64_t begin, end;
};

/// A pair of tiles each way: c (rows `stride` bytes apart) = or += rows of `left` x `right`.
template <class Tiles>
void multiply_pair(Tiles& tiles, float* c, std::int64_t stride, const std::uint32_t* left,
                   const Right& right, std::int64_t col, Depth depth, bool add) {
    float* const below = c + tile_size * stride / static_cast<std::int64_t>(sizeof(float));
    if (add) {
        tiles.template load<0>(c, stride);
        tiles.template load<1>(c + tile_size, stride);
        tiles.template load<2>(below, stride);
        tiles.template load<3>(below + tile_size, stride);
    } else {
        tiles.template zero<0>();
        tiles.template zero<1>();
        tiles.template zero<2>();
        tiles.template zero<3>();
    }
    constexpr std::int64_t row_bytes = Left::stride * sizeof(std::uint32_t);
    const std::uint32_t* const lower = left + tile_size * Left::stride;
    for (std::int64_t p = 0; p < depth.end - depth.begin; p += tile_size) {
        tiles.template load<6>(right.panel(col, depth.begin + p), panel_row_bytes);
        tiles.template load<4>(left + p, row_bytes);
        tiles.template multiply<0, 4, 6>();
        tiles.template load<7>(right.panel(col + tile_size, depth.begin + p), panel_row_bytes);
        tiles.template multiply<1, 4, 7>();
        tiles.template load<5>(lower + p, row_bytes);
        tiles.template multiply<2, 5, 6>();
        tiles.template multiply<3, 5, 7>();
    }
    tiles.template store<0>(c, stride);
    tiles.template store<1>(c + tile_size, stride);
    tiles.template store<2>(below, stride);
    tiles.template store<3>(below + tile_size, stride);
}

/// The same where c ends inside the pair: through a buffer.
template <class Tiles>
void multiply_last_pair(Tiles& tiles, TensorView c, const std::uint32_t* left, const Right& right,
                        std::int64_t col, Depth depth, bool add) {
    alignas(64) float buffer[pair * pair] = {};
    for (std::int64_t i = 0; add && i < c.rows; ++i) {
        std::copy_n(c.row(i), c.cols, buffer + i * pair);
    }
    constexpr std::int64_t stride = pair * sizeof(float);
    multiply_pair(tiles, buffer, stride, left, right, col, depth, add);
    for (std::int64_t i = 0; i < c.rows; ++i) std::copy_n(buffer + i * pair, c.cols, c.row(i));
}

/// c = or += a block of x, of which `left` holds this part of the depth, times columns of the
/// weight from `col` on.
template <class Tiles>
void multiply_block(TensorView c, const Left& left, const Right& right, std::int64_t col,
                    Depth depth, bool add) {
    Tiles tiles;
    const std::int64_t stride = c.stride * static_cast<std::int64_t>(sizeof(float));
    for (std::int64_t j = 0; j < c.cols; j += pair) {
        for (std::int64_t i = 0; i < c.rows; i += pair) {
            const std::int64_t rows = std::min(pair, c.rows - i), cols = std::min(pair, c.cols - j);
            if (rows == pair && cols == pair) {
                multiply_pair(tiles, c.row(i) + j, stride, left.row(i), right, col + j, depth, add);
            } else {
                multiply_last_pair(tiles, c.row_range(i, rows).columns(j, cols), left.row(i), right,
                                   col + j, depth, add);
            }
        }
    }
}

/// The words [depth.begin, depth.end) of x's rows, rounded.
void fill(const Left& left, TileUnit unit, TensorView x, Depth depth) {
    const std::int64_t begin = 2 * depth.begin, end = std::min(2 * depth.end, x.cols);
    round_rows_to_bf16(unit == TileUnit::amx ? Operands::bf16 : Operands::emulated_bf16,
                       reinterpret_cast<std::uint16_t*>(left.words), 2 * Left::stride,
                       x.columns(begin, end - begin));
    std::fill(left.row(x.rows), left.row(round_up(x.rows, pair)), 0U);
}

/// Words of `panel` (depth words x tile_size) from word_of(p, j): both numbers of word p of column
/// j.
template <class WordOf>
void pack_panels_of(int threads, std::byte* panels, std::int64_t depth, std::int64_t cols,
                    const WordOf& word_of) {
    const std::int64_t words = depth_words(depth);
    auto* const to = reinterpret_cast<std::uint32_t*>(panels);
    parallel_for(threads, round_up(cols, pair) / tile_size, [&](std::int64_t panel, int) noexcept {
        std::uint32_t* const own = to + panel * words * tile_size;
        const std::int64_t first = panel * tile_size;
        const std::int64_t count = std::clamp<std::int64_t>(cols - first, 0, tile_size);
        std::fill_n(own, words * tile_size, 0U);
        for (std::int64_t p = 0; p < (depth + 1) / 2; ++p) {
            for (std::int64_t j = 0; j < count; ++j) {
                own[p * tile_size + j] = word_of(p, first + j);
            }
        }
    });
}

/// Two bf16 numbers in a word, the first in its lower half.
std::uint32_t joined(std::uint16_t first, std::uint16_t second) {
    return first | static_cast<std::uint32_t>(second) << 16;
}

}  // namespace

bool has_amx() {
#if defined(__x86_64__)
    static const bool granted = [] {
        constexpr unsigned bf16 = 1U << 22, tile = 1U << 24;
        unsigned a = 0, b = 0, c = 0, d = 0;
        if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
        if ((d & bf16) == 0 || (d & tile) == 0) return false;
        // Linux saves tile registers only for a process that has asked (arch/x86, xstate.rst).
        constexpr long request_permission = 0x1023, tile_data = 18;
        return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
    }();
    return granted;
#else
    return false;
#endif
}

std::size_t tile_panel_bytes(std::int64_t depth, std::int64_t cols) {
    return static_cast<std::size_t>(depth_words(depth) * round_up(cols, pair)) *
           sizeof(std::uint32_t);
}

void pack_tile_panels(int threads, std::byte* panels, const std::uint16_t* b, std::int64_t depth,
                      std::int64_t cols) {
    pack_panels_of(threads, panels, depth, cols, [&](std::int64_t p, std::int64_t j) noexcept {
        const std::uint16_t* const first = b + 2 * p * cols + j;
        return joined(first[0], 2 * p + 1 < depth ? first[cols] : std::uint16_t{0});
    });
}

void pack_tile_panels_transposed(int threads, std::byte* panels, const std::uint16_t* b,
                                 std::int64_t depth, std::int64_t cols) {
    pack_panels_of(threads, panels, depth, cols, [&](std::int64_t p, std::int64_t j) noexcept {
        const std::uint16_t* const first = b + j * depth + 2 * p;
        return joined(first[0], 2 * p + 1 < depth ? first[1] : std::uint16_t{0});
    });
}

void multiply_tile_panels(int threads, TileUnit unit, Scratch& scratch, TensorView y, TensorView x,
                          const std::byte* panels, bool accumulate) {
    const Right right{reinterpret_cast<const std::uint32_t*>(panels), depth_words(x.cols)};
    const PanelTasks tasks(y.rows, y.cols, threads, pair, pair);
    const auto multiply =
        unit == TileUnit::amx ? multiply_block<AmxTiles> : multiply_block<EmulatedTiles>;
    auto* const lefts = reinterpret_cast<std::uint32_t*>(scratch.floats(threads * Left::size));
    parallel_for(threads, tasks.count(), [&](std::int64_t task, int thread) noexcept {
        const ResultBlock block = tasks.block(task);
        const Left left{lefts + thread * Left::size};
        for (Depth depth{0, 0}; depth.begin < right.depth; depth.begin = depth.end) {
            depth.end = std::min(depth.begin + tile_block_depth, right.depth);
            fill(left, unit, x.row_range(block.row, block.rows), depth);
            multiply(block.of(y), left, right, block.col, depth, accumulate || depth.begin > 0);
        }
    });
}

}  // namespace fedit::cpu
