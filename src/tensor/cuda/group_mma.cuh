// tensor/cuda/group_mma.cuh: products of groups of four warps, whose operands lie in shared memory.
// Hopper's wgmma, which no other card has: files that include this are compiled for sm_90a alone.
//
// Rows of 64 bf16, 128 bytes, from a multiple of 1024 on; the eight vectors of 16 bytes of row r
// lie in the order i ^ r % 8, so that neither rows nor columns of them meet in a bank.
// tests/tensor/cuda/emulate_group.h offers the same names on a CPU.
#pragma once

#include "tensor/cuda/warp.cuh"

namespace fedit::cuda {

/// What wgmma wants to know of such rows: their address; 1024 bytes from one eight of them to the
/// next; the order of their vectors (PTX ISA, "matrix descriptor").
__device__ inline std::uint64_t group_rows(const Bf16* rows) {
    constexpr std::uint64_t eight_rows = 1024 >> 4, swizzle_of_128_bytes = 1;
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(rows));
    return (address & 0x3ffffU) >> 4 | eight_rows << 16 | eight_rows << 32 |
           swizzle_of_128_bytes << 62;
}

/// Copies that this thread waited for become visible to group_mma behind the block's next barrier.
__device__ inline void show_to_group_mma() {
    asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
}

/// Registers x are what they are here: products in flight write them, and no access to them may
/// move to the other side.
template <int N>
__device__ void hold(float (&x)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
        asm volatile("" : "+f"(x[n][0]), "+f"(x[n][1]), "+f"(x[n][2]), "+f"(x[n][3]) : : "memory");
    }
}
template <int N>
__device__ void hold(const std::uint32_t (&x)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
        asm volatile("" : : "r"(x[n][0]), "r"(x[n][1]), "r"(x[n][2]), "r"(x[n][3]) : "memory");
    }
}

/// Until all warps of group `group` of the block have come here.
__device__ inline void sync_group(int group) {
    asm volatile("bar.sync %0, 128;" : : "r"(group + 1) : "memory");
}

/// Before products that read or write registers which anything else has written.
__device__ inline void start_group_products() {
    asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
}
/// The products since the last call are one batch.
__device__ inline void commit_group_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory");
}
/// Until at most the last `pending` batches are under way.
template <int pending>
__device__ void wait_for_group_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(pending) : "memory");
}

/// c (64 x 64, fp32) += a (64 x 16) b^T (64 x 16), or = where `add` is false; 16 columns of rows.
/// A warp's c are its 16 rows of the group's, in tiles as mma has them.
__device__ inline void group_mma(float (&c)[8][4], const Bf16* a, const Bf16* b, bool add) {
    asm volatile(
        "{\n"
        ".reg .pred add;\n"
        "setp.ne.b32 add, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "%32, %33, add, 1, 1, 0, 0;\n"
        "}"
        : "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]),  //
          "+f"(c[1][0]), "+f"(c[1][1]), "+f"(c[1][2]), "+f"(c[1][3]),  //
          "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]),  //
          "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]),  //
          "+f"(c[4][0]), "+f"(c[4][1]), "+f"(c[4][2]), "+f"(c[4][3]),  //
          "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]),  //
          "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]),  //
          "+f"(c[7][0]), "+f"(c[7][1]), "+f"(c[7][2]), "+f"(c[7][3])
        : "l"(group_rows(a)), "l"(group_rows(b)), "r"(static_cast<int>(add)));
}

/// c (64 x 64 from column 8 n of c on) += a (64 x 16, a warp's 16 rows as mma wants them) b (16
/// rows, 64 columns).
template <int N>
__device__ void group_mma(float (&c)[N][4], int n, const std::uint32_t (&a)[4], const Bf16* b) {
    asm volatile(
        "{\n"
        ".reg .pred add;\n"
        "setp.eq.b32 add, 0, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "{%32, %33, %34, %35}, %36, add, 1, 1, 1;\n"
        "}"
        : "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3]),                  //
          "+f"(c[n + 1][0]), "+f"(c[n + 1][1]), "+f"(c[n + 1][2]), "+f"(c[n + 1][3]),  //
          "+f"(c[n + 2][0]), "+f"(c[n + 2][1]), "+f"(c[n + 2][2]), "+f"(c[n + 2][3]),  //
          "+f"(c[n + 3][0]), "+f"(c[n + 3][1]), "+f"(c[n + 3][2]), "+f"(c[n + 3][3]),  //
          "+f"(c[n + 4][0]), "+f"(c[n + 4][1]), "+f"(c[n + 4][2]), "+f"(c[n + 4][3]),  //
          "+f"(c[n + 5][0]), "+f"(c[n + 5][1]), "+f"(c[n + 5][2]), "+f"(c[n + 5][3]),  //
          "+f"(c[n + 6][0]), "+f"(c[n + 6][1]), "+f"(c[n + 6][2]), "+f"(c[n + 6][3]),  //
          "+f"(c[n + 7][0]), "+f"(c[n + 7][1]), "+f"(c[n + 7][2]), "+f"(c[n + 7][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(group_rows(b)));
}

}  // namespace fedit::cuda
