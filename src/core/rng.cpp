// core/rng.cpp: Philox4x32-10 and the distributions drawn from it.
#include "fedit/core/rng.h"

#include <cassert>
#include <cmath>
#include <numbers>
#include <utility>

namespace fedit {
namespace {

constexpr int philox_rounds = 10;
constexpr std::uint64_t multiplier_0 = 0xD2511F53;
constexpr std::uint64_t multiplier_1 = 0xCD9E8D57;
constexpr std::uint32_t weyl_0 = 0x9E3779B9;
constexpr std::uint32_t weyl_1 = 0xBB67AE85;

std::uint32_t high_word(std::uint64_t value) {
    return static_cast<std::uint32_t>(value >> 32);
}
std::uint32_t low_word(std::uint64_t value) {
    return static_cast<std::uint32_t>(value);
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
    for (int round = 0; round < philox_rounds; ++round) {
        const std::uint64_t product_0 = multiplier_0 * counter[0];
        const std::uint64_t product_1 = multiplier_1 * counter[2];
        counter = {high_word(product_1) ^ counter[1] ^ key[0], low_word(product_1),
                   high_word(product_0) ^ counter[3] ^ key[1], low_word(product_0)};
        key[0] += weyl_0;
        key[1] += weyl_1;
    }
    return counter;
}

std::uint64_t derive_key(const StreamKey& key) {
    const auto block =
        philox4x32({static_cast<std::uint32_t>(key.purpose), key.client, key.round, key.step},
                   {low_word(key.seed), high_word(key.seed)});
    return block[0] | std::uint64_t{block[1]} << 32;
}

std::uint32_t RandomStream::bits32() {
    if (used_ == 4) {
        buffer_ = philox4x32({low_word(block_), high_word(block_), 0, 0},
                             {low_word(key_), high_word(key_)});
        ++block_;
        used_ = 0;
    }
    return buffer_[static_cast<std::size_t>(used_++)];
}

std::uint64_t RandomStream::bits64() {
    const std::uint64_t low = bits32();
    const std::uint64_t high = bits32();
    return low | high << 32;
}

double RandomStream::uniform() {
    return static_cast<double>(bits64() >> 11) * 0x1p-53;
}

std::uint64_t RandomStream::below(std::uint64_t bound) {
    assert(bound > 0);
    // 2^64 mod bound values are dropped, so that every remainder is equally likely.
    const std::uint64_t dropped = (0 - bound) % bound;
    std::uint64_t value = bits64();
    while (value < dropped) value = bits64();
    return value % bound;
}

double RandomStream::normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));  // 1 - u is never 0
    return radius * std::cos(2 * std::numbers::pi * uniform());
}

double RandomStream::gamma(double shape) {
    assert(shape > 0);
    if (shape < 1) {
        const double larger = gamma(shape + 1);
        return larger * std::pow(1 - uniform(), 1 / shape);
    }
    const double d = shape - 1.0 / 3.0;
    const double c = 1 / std::sqrt(9 * d);
    for (;;) {
        const double x = normal();
        const double root = 1 + c * x;
        if (root <= 0) continue;
        const double v = root * root * root;
        if (std::log(1 - uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
    }
}

void RandomStream::shuffle(std::span<std::int64_t> values) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
}

}  // namespace fedit
