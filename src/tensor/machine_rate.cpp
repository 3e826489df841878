// tensor/machine_rate.cpp: times one large product.
#include "fedit/tensor/machine_rate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "fedit/core/rng.h"

namespace fedit {

namespace {

/// Random numbers, repeated: how fast a product runs depends on their bits being random, not on
/// their being different.
std::vector<float> random_values(std::int64_t count) {
    constexpr std::size_t different = std::size_t{1} << 20;
    RandomStream random(StreamKey{.seed = 1, .purpose = Purpose::synthetic_data});
    std::vector<float> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] =
            i < different ? static_cast<float>(random.uniform() - 0.5) : values[i - different];
    }
    return values;
}

/// The values as a back end keeps activations of that type (bf16: cut off, not rounded).
std::vector<std::byte> as_activations(std::span<const float> values, Dtype dtype) {
    const std::span<const std::byte> bytes = std::as_bytes(values);
    if (dtype == Dtype::fp32) return {bytes.begin(), bytes.end()};
    std::vector<std::byte> upper(bytes.size() / 2);
    for (std::size_t i = 0; i < upper.size(); i += 2) {  // little endian: the upper half is last
        upper[i] = bytes[2 * i + 2];
        upper[i + 1] = bytes[2 * i + 3];
    }
    return upper;
}

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace

double measure_product_rate(Backend& backend, Dtype dtype) {
    // A card needs a larger product than a CPU to fill it, and several between two readings of the
    // clock, so that to start and to wait for them costs no share of their time.
    const bool on_card = backend.info().kind == "cuda";
    const std::int64_t size = on_card ? 8192 : 2048;
    const int products = on_card ? 20 : 1;
    constexpr int repetitions = 6;

    const std::vector<float> values = random_values(size * size);
    const Dtype activations = backend.activation_dtype(dtype);
    const std::vector<std::byte> bytes = as_activations(values, activations);
    DeviceBuffer packed(backend, backend.packed_bytes(dtype, size, size));
    backend.pack(packed.data(), dtype, values, size, size);
    const PackedWeight weight{packed.data(), packed.bytes(), dtype, size, size};
    DeviceBuffer x(backend, bytes.size());
    DeviceBuffer y(backend, bytes.size());
    backend.upload(x.data(), bytes);
    const TensorView x_view{x.data(), activations, size, size, size};
    const TensorView y_view{y.data(), activations, size, size, size};

    double best = std::numeric_limits<double>::infinity();
    float last = 0;
    for (int i = 0; i < repetitions; ++i) {
        const double begin = seconds_now();
        for (int p = 0; p < products; ++p) {
            backend.linear(y_view, x_view, weight, nullptr, /*accumulate=*/false);
        }
        // Reading a result back waits for a device that works on its own.
        backend.download(std::as_writable_bytes(std::span(&last, 1)), y.data());
        best = std::min(best, seconds_now() - begin);
    }
    return products * 2.0 * std::pow(static_cast<double>(size), 3) / best;
}

}  // namespace fedit
