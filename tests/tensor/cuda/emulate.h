// tests/tensor/cuda/emulate.h: runs the text of CUDA kernels on a CPU, a fibre a thread.
//
// A translation unit includes this file, then the kernels' .cuh. One block runs at a time; a warp
// runs until all its threads wait for the block, which is the widest spread of warps that barriers
// allow. Found are: wrong indexes, wrong fragment layouts, reads of shared memory that nobody wrote
// (it is filled with NaN before each block), accesses of 16 bytes that are not aligned, threads
// that miss a barrier or a shuffle, reads of asynchronous copies that were not waited for, and
// (order of warps, barriers left out) missing barriers. It knows nothing of time, registers,
// caches, order between blocks, or rounding inside a tensor core. It needs no CUDA toolkit.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "tensor/cuda/bf16.h"
#include "tensor/cuda/launch.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)

// What CUDA defines for every kernel, under CUDA's names.
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct uint3 {
    unsigned x = 0, y = 0, z = 0;
};
struct uint4 {
    unsigned x = 0, y = 0, z = 0, w = 0;
};
struct int2 {
    int x = 0, y = 0;
};
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace fedit::emulate {

/// A barrier's place in the text of the kernels.
struct Site {
    std::string file;
    unsigned line = 0, column = 0;
    auto operator<=>(const Site&) const = default;
};

/// Which warp of a block goes first after each barrier, and which lane of a warp.
enum class Order { first_to_last, last_to_first };

/// How a kernel is run.
struct Settings {
    Order order = Order::first_to_last;
    std::optional<Site> without{};    ///< a barrier that is left out
    std::set<Site>* sites = nullptr;  ///< gets the barriers that were reached, unless null
};

/// Runs `kernel` for every thread of every block. Throws what the kernel throws, and
/// std::runtime_error where threads wait for each other in vain.
void run(const cuda::Grid& grid, const Settings& settings, const std::function<void()>& kernel);

/// What the launch templates beside the kernels start kernels with, as StreamLaunch does on a GPU.
class Launch {
public:
    explicit Launch(const Settings& settings) : settings_(settings) {}

    template <class... Parameters, class... Arguments>
    void operator()(const cuda::Grid& grid, void (*kernel)(Parameters...),
                    Arguments... arguments) const {
        run(grid, settings_, [&] { kernel(arguments...); });
    }

private:
    Settings settings_;
};

// ---- what the names of warp.cuh are made of

constexpr std::size_t slot_bytes = 64;
using Slots = std::array<std::array<std::byte, slot_bytes>, 32>;

int lane();
/// Puts the caller's bytes into its lane's slot and waits for the warp; what is returned stays
/// whole until the warp meets again.
const Slots& exchange_bytes(const void* mine, std::size_t bytes);
void wait_for_block(const Site& site);
/// A copy to shared memory (of zeros, if `from` is null) that the running thread will wait for.
/// Until then `to` is poisoned.
void start_copy(void* to, const void* from, std::size_t bytes);
void finish_copies();
/// Work that the running thread will wait for, and what divides it into batches.
void start_product(std::function<void()> product);
void commit_products();
/// Does all but the last `pending` batches, in their order.
void finish_products(int pending);
unsigned char* dynamic_shared_bytes();
/// Shared memory of fixed size, to be poisoned now and before each block.
void register_shared(void* memory, std::size_t bytes);

/// Every lane sees every lane's value.
template <class T>
std::array<T, 32> exchange(const T& mine) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= slot_bytes);
    const Slots& slots = exchange_bytes(&mine, sizeof(T));
    std::array<T, 32> all;
    for (std::size_t i = 0; i < 32; ++i) std::memcpy(&all[i], slots[i].data(), sizeof(T));
    return all;
}

inline void require_aligned(const void* address, std::size_t alignment) {
    if (reinterpret_cast<std::uintptr_t>(address) % alignment != 0) {
        throw std::runtime_error("an address is not a multiple of " + std::to_string(alignment));
    }
}

}  // namespace fedit::emulate

inline void __syncthreads(std::source_location at = std::source_location::current()) {
    fedit::emulate::wait_for_block({at.file_name(), at.line(), at.column()});
}
inline float rsqrtf(float x) {
    return 1.0F / std::sqrt(x);
}

#include "tests/tensor/cuda/emulate_warp.h"
