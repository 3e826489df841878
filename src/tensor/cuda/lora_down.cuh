// tensor/cuda/lora_down.cuh: the narrow products of adapters on tensor cores: shares of s = factor
// drop(x) A^T of all layers that share x, or of ds = scale dy B together with those of db = scale
// dy^T s. x or dy is read once.
#pragma once

#include "tensor/cuda/lora_tiles.cuh"

namespace fedit::cuda {

inline constexpr int down_warps = 8, down_threads = 32 * down_warps;
/// A warp's columns: groups of 32.
inline constexpr int down_groups = slice_columns / down_warps / 32;

/// Sums of 16 rows by one warp.
template <int RT>
inline constexpr int down_sums = 16 * 16 * RT;
static_assert(down_sums<1> == down_threads);

/// Eight neighbouring weights of one rank as bf16; zeros beyond the matrix.
__device__ inline uint4 load_weights(const Factor& factor, std::int64_t rank, std::int64_t column) {
    float x[8] = {};
    if (rank < factor.rank && column < factor.depth) {
        if (factor.vectors) {
            load(x, factor.data + rank * factor.rank_stride + column);
        } else {
#pragma unroll
            for (int i = 0; i < 8; ++i) x[i] = factor.at(rank, column + i);
        }
    }
    return {pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7])};
}

/// A thread's weights: of every eighth rank, in each group of columns. Those of several layers,
/// which its registers cannot hold, lie in shared memory, where no other thread reads them.
template <int layers, int RT>
struct SliceWeights {
    static constexpr int own = layers * down_groups * 2 * RT;
    static constexpr bool shared = layers > 1;
    static constexpr std::size_t bytes = shared ? sizeof(uint4) * own * down_threads : 0;

    uint4 registers[shared ? 1 : own];

    /// Those of a layer: of rank `rank`, in the group of columns that begins at `column`, and on.
    __device__ void load(int layer, const Factor& factor, std::int64_t rank, std::int64_t column) {
#pragma unroll
        for (int i = 0; i < down_groups * 2 * RT; ++i) {
            const int group = i / (2 * RT), eighth = i % (2 * RT);
            at(layer, group, eighth) = load_weights(factor, rank + 8 * eighth, column + 32 * group);
        }
    }

    __device__ uint4& at(int layer, int group, int eighth) {
        const int i = (layer * down_groups + group) * 2 * RT + eighth;
        if constexpr (!shared) return registers[i];
        return reinterpret_cast<uint4*>(dynamic_shared())[i * down_threads + threadIdx.x];
    }
};

/// Bytes of a block's shared memory: the weights, two sets of the layers' sums in turn, then s, or
/// the rows' counters.
template <int layers, int RT, LoraSide side>
inline constexpr std::size_t down_bytes = SliceWeights<layers, RT>::bytes +
                                          sizeof(float) * 2 * layers* down_warps* down_sums<RT> +
                                          (side == LoraSide::input ? counter_bytes
                                                                   : narrow_bytes<16 * RT>);

static_assert(down_bytes<3, 1, LoraSide::input> < least_block_memory);

/// Shares of s or ds, one a slice of columns: (slices x rows x columns), where each layer has as
/// many columns as its largest rank.
struct SliceSums {
    float* data;
    std::int64_t rows;
    int columns;

    __device__ float* at(std::int64_t slice, std::int64_t row, std::int64_t column) const {
        return data + (slice * rows + row) * columns + column;
    }
};

/// One layer's part. On the output's side the shares of db are made too, for which the forward
/// pass's s is given.
struct LayerSlices {
    int column;  ///< its first one in the sums
    GradientShares gradient;
    Rows<Bf16> s;
    Rows<Bf16> to;  ///< where the sum of the slices goes
    DeviceSlots slots;
    std::uint32_t module;
};

/// Layers that share x.
template <int layers>
struct LoraSlices {
    SliceSums sums;
    LayerSlices layer[layers];
    Rows<Bf16> x;
    DeviceDropout dropout;
    std::int64_t depth;
};

/// sum (16 rows x 8 ranks) += x w over 32 columns.
__device__ inline void add_narrow(float (&sum)[4], const uint4 (&x)[2], const uint4& w) {
    const std::uint32_t left[4] = {x[0].x, x[1].x, x[0].y, x[1].y};
    const std::uint32_t right[4] = {x[0].z, x[1].z, x[0].w, x[1].w};
    mma(sum, left, w.x, w.y);
    mma(sum, right, w.z, w.w);
}

/// Adds the warps' sums of 16 rows, which lie as mma left them, in order. `to`: the first row's
/// first rank; `rows` and `ranks` are left.
template <int RT>
__device__ void store_slice(float* to, const float* part, int distance, int rows, int ranks) {
#pragma unroll
    for (int n = 0; n < RT; ++n) {
        const int e = static_cast<int>(threadIdx.x) + n * down_threads;
        float sum = 0;
#pragma unroll
        for (int w = 0; w < down_warps; ++w) sum += part[w * down_sums<RT> + e];
        const int lane = e % 128 / 4, i = e % 4;
        const int row = lane / 4 + 8 * (i / 2), rank = e / 128 * 8 + 2 * (lane % 4) + i % 2;
        if (row < rows && rank < ranks) to[row * distance + rank] = sum;
    }
}

/// Blocks that an SM should hold.
template <int RT>
inline constexpr int down_blocks = RT == 1 ? 2 : 1;

/// Grid: tile_numbers(rows, slots, gradient_chunk) x (slices * rank_tiles), rank_tiles =
/// ceil(largest rank / 16 RT).
template <int layers, int RT, LoraSide side>
__global__ void __launch_bounds__(down_threads, down_blocks<RT>)
    lora_down_kernel(LoraSlices<layers> a, int rank_tiles) {
    constexpr bool gradient = side == LoraSide::output;
    static_assert(layers == 1 || !gradient);  // outputs are not shared
    const DeviceSlots& slots = a.layer[0].slots;
    const Tile tile = find_tile<gradient_chunk>(slots.row_begin, slots.count, blockIdx.x);
    if (tile.empty()) return;
    const std::int64_t first_rank = static_cast<std::int64_t>(blockIdx.y) % rank_tiles * 16 * RT;
    const std::int64_t slice = static_cast<std::int64_t>(blockIdx.y) / rank_tiles;
    if (largest_rank(a.layer, tile.segment) <= first_rank) return;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int place = lane / 4;
    const std::int64_t column = slice * slice_columns + warp * 32 * down_groups + lane % 4 * 8;

    constexpr int set = down_warps * down_sums<RT>;
    auto* const part = reinterpret_cast<float*>(dynamic_shared() + SliceWeights<layers, RT>::bytes);
    void* const rest = part + 2 * layers * set;
    auto* const counters = static_cast<std::int64_t*>(rest);
    auto* const s = static_cast<Bf16*>(rest);
    LaneVectors<down_groups> vectors(a.x, tile, column, a.depth);
    uint4 x[down_groups][2];
    vectors.load(x);
    __shared__ SharedArray<int, layers> ranks;  // that are left; the loop has no registers for them
    SliceWeights<layers, RT> w;
#pragma unroll
    for (int l = 0; l < layers; ++l) {
        const Factor factor = factor_of<side>(a.layer[l].slots.adapters[tile.segment], a.depth);
        w.load(l, factor, first_rank + place, column);
        if (threadIdx.x == 0) ranks[l] = static_cast<int>(factor.rank - first_rank);
    }
    if constexpr (gradient) {
        load_narrow<16 * RT>(s, a.layer[0].s, tile, first_rank, slots.adapters[tile.segment].rank);
        __syncthreads();
    } else if (a.dropout.threshold > 0) {
        load_counters(counters, a.dropout, tile);
        __syncthreads();
    }
    const TileDropout dropout(a.dropout, tile.segment, counters);

    float* const to = a.sums.at(slice, tile.first, first_rank);
    float db[down_groups][RT][4][4] = {};
    const int count = static_cast<int>(tile.end - tile.first);
#pragma unroll 1
    for (int t = 0; t < count; t += 16) {
        float* const sums = part + t / 16 % 2 * (layers * set);
#pragma unroll
        for (int l = 0; l < layers; ++l) {
            float sum[2 * RT][4] = {};
#pragma unroll
            for (int g = 0; g < down_groups; ++g) {
                uint4 kept[2] = {x[g][0], x[g][1]};
#pragma unroll
                for (int r = 0; !gradient && r < 2; ++r) {
                    kept[r] = drop(kept[r], dropout.mask(a.layer[l].module, t + place + 8 * r,
                                                         column + 32 * g));
                }
#pragma unroll
                for (int n = 0; n < 2 * RT; ++n) add_narrow(sum[n], kept, w.at(l, g, n));
            }
#pragma unroll
            for (int n = 0; n < 2 * RT; ++n) {
                store(sums + l * set + warp * down_sums<RT> + 128 * n + 4 * lane, sum[n]);
            }
        }
        if constexpr (gradient) {
            std::uint32_t left[RT][4];
#pragma unroll
            for (int m = 0; m < RT; ++m) load_left_transposed<16 * RT>(left[m], s, t, 16 * m);
#pragma unroll
            for (int g = 0; g < down_groups; ++g) add_gradient(db[g], left, x[g]);
        }
        // The next rows are on their way while the warps wait for each other.
        vectors.advance();
        vectors.load(x);
        __syncthreads();  // the set of sums before this one has been read, too
#pragma unroll
        for (int l = 0; l < layers; ++l) {
            store_slice<RT>(to + t * a.sums.columns + a.layer[l].column, sums + l * set,
                            a.sums.columns, count - t, ranks[l]);
        }
    }
    if constexpr (gradient) {
#pragma unroll
        for (int g = 0; g < down_groups; ++g) {
            store_gradient<side>(a.layer[0].gradient.chunk(blockIdx.x), db[g], first_rank,
                                 slots.adapters[tile.segment].rank, column + 32 * g, a.depth);
        }
    }
}

/// Rows of a block that adds slices.
inline constexpr int sum_rows = 16, sum_threads = 256;

/// s = factor * the sum of its slices' shares. Grid: tile_numbers(rows, slots, sum_rows).
template <LoraSide side>
__global__ void __launch_bounds__(sum_threads)
    lora_sum_slices_kernel(SliceSums sums, LayerSlices a, std::int64_t depth, float factor) {
    const Tile tile = find_tile<sum_rows>(a.slots.row_begin, a.slots.count, blockIdx.x);
    if (tile.empty()) return;
    const LoraSlot& slot = a.slots.adapters[tile.segment];
    const float scale = side == LoraSide::input ? factor : slot.scale;
    const auto rank = static_cast<int>(slot.rank);
    const std::int64_t slices = (depth + slice_columns - 1) / slice_columns;
    for (int i = static_cast<int>(threadIdx.x); i < sum_rows * rank; i += sum_threads) {
        const std::int64_t row = tile.first + i / rank, r = i % rank;
        if (row >= tile.end) return;
        float sum[1] = {0};
#pragma unroll 8
        for (std::int64_t slice = 0; slice < slices; ++slice) {
            sum[0] += *sums.at(slice, row, a.column + r);
        }
        sum[0] *= scale;
        store(a.to.at(row, r), sum);
    }
}

}  // namespace fedit::cuda
