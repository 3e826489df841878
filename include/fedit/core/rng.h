// core/rng.h: counter-based random streams (Philox4x32-10), so that a client's randomness depends
// on its key alone and never on who runs beside it.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace fedit {

/// What a stream is for. Values are part of a run's identity: never renumber.
enum class Purpose : std::uint32_t {
    partition = 1,
    sampling = 2,
    batch_order = 3,
    dropout = 4,
    adapter_init = 5,
    model_init = 6,
    synthetic_data = 7,
    generation = 8,
};

/// Names one random stream. Equal keys give equal streams on every machine.
struct StreamKey {
    std::uint64_t seed = 0;
    Purpose purpose{};
    std::uint32_t client = 0;
    std::uint32_t round = 0;
    std::uint32_t step = 0;  ///< epoch or optimizer step
};

/// One block of Philox4x32 with 10 rounds (Salmon et al., SC 2011).
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

/// The 64-bit Philox key of a stream: the first two words of
/// philox4x32({purpose, client, round, step}, seed).
std::uint64_t derive_key(const StreamKey& key);

/// A sequence of random numbers, a pure function of its key.
class RandomStream {
public:
    explicit RandomStream(const StreamKey& key) : RandomStream(derive_key(key)) {}
    explicit RandomStream(std::uint64_t derived_key) : key_(derived_key) {}

    std::uint32_t bits32();
    std::uint64_t bits64();
    /// Uniform in [0, 1), 53 bits.
    double uniform();
    /// Uniform integer in [0, bound), without bias; bound > 0.
    std::uint64_t below(std::uint64_t bound);
    /// Standard normal (Box-Muller).
    double normal();
    /// Gamma(shape, 1) for shape > 0 (Marsaglia and Tsang 2000).
    double gamma(double shape);
    /// Fisher-Yates.
    void shuffle(std::span<std::int64_t> values);

private:
    std::uint64_t key_;
    std::uint64_t block_ = 0;
    std::array<std::uint32_t, 4> buffer_{};
    int used_ = 4;
};

}  // namespace fedit
