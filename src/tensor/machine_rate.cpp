// tensor/machine_rate.cpp: times large products.
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

/// A square product of random data.
class SquareProduct {
public:
    SquareProduct(Backend& backend, Dtype dtype)
        : backend_(backend),
          // A card needs a larger product than a CPU to fill it, and several between two readings
          // of the clock, so that to start and to wait for them costs no share of their time.
          size_(on_card() ? 8192 : 2048),
          products_(on_card() ? 20 : 1),
          dtype_(dtype),
          activations_(backend.activation_dtype(dtype)),
          packed_(backend, backend.packed_bytes(dtype, size_, size_)) {
        const std::vector<float> values = random_values(size_ * size_);
        const std::vector<std::byte> bytes = as_activations(values, activations_);
        backend.pack(packed_.data(), dtype, values, size_, size_);
        x_ = DeviceBuffer(backend, bytes.size());
        y_ = DeviceBuffer(backend, bytes.size());
        backend.upload(x_.data(), bytes);
    }

    double flop() const { return products_ * 2.0 * std::pow(static_cast<double>(size_), 3); }

    /// Seconds that flop() take.
    double run() {
        const PackedWeight weight{packed_.data(), packed_.bytes(), dtype_, size_, size_};
        const double begin = seconds_now();
        for (int p = 0; p < products_; ++p) {
            backend_.linear(view(y_), view(x_), weight, nullptr, /*accumulate=*/false);
        }
        // Reading a result back waits for a device that works on its own.
        float last = 0;
        backend_.download(std::as_writable_bytes(std::span(&last, 1)), y_.data());
        return seconds_now() - begin;
    }

private:
    bool on_card() const { return backend_.info().kind == "cuda"; }
    TensorView view(const DeviceBuffer& buffer) const {
        return {buffer.data(), activations_, size_, size_, size_};
    }

    Backend& backend_;
    std::int64_t size_;
    int products_;
    Dtype dtype_, activations_;
    DeviceBuffer packed_, x_, y_;
};

}  // namespace

double measure_product_rate(Backend& backend, Dtype dtype) {
    constexpr int repetitions = 6;
    SquareProduct product(backend, dtype);
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < repetitions; ++i) best = std::min(best, product.run());
    return product.flop() / best;
}

double measure_sustained_product_rate(Backend& backend, Dtype dtype, double seconds) {
    SquareProduct product(backend, dtype);
    const double begin = seconds_now();
    double flop = 0, busy = 0;
    while (flop == 0 || seconds_now() - begin < seconds) {
        const bool warm = seconds_now() - begin >= seconds / 2;
        const double taken = product.run();
        if (!warm) continue;
        flop += product.flop();
        busy += taken;
    }
    return flop / busy;
}

}  // namespace fedit
