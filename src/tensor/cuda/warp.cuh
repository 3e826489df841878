// tensor/cuda/warp.cuh: all that the text of a kernel may name beyond the language.
//
// tests/tensor/cuda/emulate.h offers the same names on a CPU. A file that compiles kernels includes
// one of the two first; the .cuh files with kernels include neither. Both offer besides: blockIdx,
// blockDim, gridDim, threadIdx, __syncthreads(), uint4 and the functions of <math.h>.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "tensor/cuda/bf16.h"

namespace fedit::cuda {

// ---- numbers

__device__ inline float to_float(float x) {
    return x;
}
__device__ inline float to_float(Bf16 x) {
    return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
/// Rounds to nearest even; NaN stays NaN.
__device__ inline Bf16 to_bf16(float x) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
/// 2^x to 2 units in the last place; 0 where that is less than the smallest normal number.
__device__ inline float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/// 1 / x to one unit in the last place; 0 where that is less than the smallest normal number.
__device__ inline float reciprocal_approximate(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/// Two bf16 in one register, `low` in the lower half.
__device__ inline std::uint32_t pack(float low, float high) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return static_cast<std::uint32_t>(__bfloat16_as_ushort(both.x)) |
           static_cast<std::uint32_t>(__bfloat16_as_ushort(both.y)) << 16;
}
__device__ inline float low_half(std::uint32_t packed) {
    return __uint_as_float(packed << 16);
}
__device__ inline float high_half(std::uint32_t packed) {
    return __uint_as_float(packed & 0xffff0000U);
}
__device__ inline float float_of_bits(std::uint32_t bits) {
    return __uint_as_float(bits);
}
__device__ inline std::uint32_t bits_of_float(float x) {
    return __float_as_uint(x);
}
/// The nearest integer, ties to even: std::llrint in the default mode.
__device__ inline std::int64_t round_to_integer(double x) {
    return __double2ll_rn(x);
}

// ---- memory

/// 16 bytes in one access; the address must be a multiple of 16.
__device__ inline uint4 load16(const void* from) {
    return *static_cast<const uint4*>(from);
}
__device__ inline void store16(void* to, uint4 value) {
    *static_cast<uint4*>(to) = value;
}
/// Two floats in one access; the address must be a multiple of 8.
__device__ inline void load8(float (&x)[2], const float* from) {
    const float2 both = *reinterpret_cast<const float2*>(from);
    x[0] = both.x, x[1] = both.y;
}
/// Starts a copy of 16 bytes from global to shared memory; zeros, and nothing is read, unless
/// `exists`. Both addresses must be multiples of 16. What a thread started it must wait for; what
/// others did is there behind a barrier too.
__device__ inline void start_copy16(void* to, const void* from, bool exists) {
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(address), "l"(from), "r"(exists ? 16 : 0)
                 : "memory");
}
/// The same for one float.
__device__ inline void start_copy4(float* to, const float* from, bool exists) {
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :
                 : "r"(address), "l"(from), "r"(exists ? 4 : 0)
                 : "memory");
}
/// Until all copies that this thread started have arrived.
__device__ inline void wait_for_copies() {
    asm volatile("cp.async.wait_all;" : : : "memory");
}
/// *at = min(*at, value), whole. Integers: no order changes the result.
__device__ inline void atomic_min(std::uint64_t* at, std::uint64_t value) {
    static_assert(sizeof(unsigned long long) == sizeof(std::uint64_t));
    atomicMin(reinterpret_cast<unsigned long long*>(at), value);
}

/// N elements that a block shares: `__shared__ SharedArray<float, 32> part;` in a kernel. The twin
/// on a CPU fills them with NaN before each block and checks indexes.
template <class T, int N>
class SharedArray {
public:
    __device__ T& operator[](int i) { return at_[i]; }

private:
    T at_[N];
};

/// The shared memory that the launch asked for. Aligned as the rows of group_mma want it.
__device__ inline unsigned char* dynamic_shared() {
    extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
    return dynamic_shared_memory;
}

// ---- warps of 32 lanes; all lanes take part in each of these

constexpr unsigned all_lanes = 0xffffffffU;

/// The number of the running thread in its warp. Where it is asked for again it is read again,
/// which takes no register in between.
__device__ inline int own_lane() {
    int lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}
/// The value of lane (own ^ mask).
template <class T>
__device__ T shfl_xor(T x, int mask) {
    return __shfl_xor_sync(all_lanes, x, mask);
}
/// The value of lane `lane`.
template <class T>
__device__ T shfl(T x, int lane) {
    return __shfl_sync(all_lanes, x, lane);
}
/// What the lanes wrote before, all lanes see after.
__device__ inline void sync_warp() {
    __syncwarp();
}

// ---- tensor cores

/// Four 8 x 8 matrices of bf16. Lane l gives the address of row l % 8 of matrix l / 8, a multiple
/// of 16 in shared memory. r[i] of lane l receives elements (l / 4, 2 (l % 4)) and the one to its
/// right, of matrix i.
__device__ inline void ldmatrix(std::uint32_t (&r)[4], const Bf16* row) {
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/// The same, each matrix transposed on the way.
__device__ inline void ldmatrix_transposed(std::uint32_t (&r)[4], const Bf16* row) {
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/// Transposes an 8 x 8 matrix of bf16 that lies in registers as ldmatrix leaves it.
__device__ inline std::uint32_t transposed(std::uint32_t matrix) {
    std::uint32_t result;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(matrix));
    return result;
}

/// c (16 x 8, fp32) += a (16 x 16 bf16, row major) b (16 x 8 bf16, column major).
__device__ inline void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                           std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace fedit::cuda
