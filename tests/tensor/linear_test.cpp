// tests/tensor/linear_test.cpp: products with packed weights, in both layouts, and the bf16 logic.
#include <bit>
#include <cstring>
#include <tuple>

#include "fedit/core/error.h"
#include "fedit/tensor/machine_rate.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/tile_products.h"
#include "tests/support/on_every_backend.h"

namespace fedit::test {
namespace {

using cpu::Bf16Products;
using cpu::CpuBackend;
using cpu::ProductChoice;
using cpu::WeightLayout;

/// Who can make fp32 products, and bf16 products, whatever this CPU is.
const ProductChoice panels{.layout = WeightLayout::panels};
const ProductChoice emulated{.bf16 = Bf16Products::emulated};
const ProductChoice emulated_amx{.bf16 = Bf16Products::emulated_amx};

struct Case {
    WeightLayout layout;
    std::int64_t rows, in, out, padding;
};

std::string case_name(const testing::TestParamInfo<Case>& info) {
    const Case& c = info.param;
    return (c.layout == WeightLayout::panels ? "panels_" : "blocked_") + std::to_string(c.rows) +
           "x" + std::to_string(c.in) + "x" + std::to_string(c.out) + "p" +
           std::to_string(c.padding);
}

class Linear : public testing::TestWithParam<Case> {
protected:
    CpuBackend backend_{2, {.layout = GetParam().layout}};
};

TEST_P(Linear, ForwardAgreesWithDoubleLoops) {
    const auto [layout, rows, in, out, padding] = GetParam();
    const Matrix x = random_matrix(rows, in, 1), w = random_matrix(out, in, 2),
                 bias = random_matrix(1, out, 3), y0 = random_matrix(rows, out, 4);
    const DeviceWeight weight(backend_, w);
    const DeviceMatrix dx(backend_, x, in + padding), dbias(backend_, bias);
    const Matrix product = naive::multiply(x, transpose(w));
    for (const bool with_bias : {false, true}) {
        for (const bool accumulate : {false, true}) {
            const DeviceMatrix y(backend_, y0, out + padding);
            backend_.linear(y.view(), dx.view(), weight.get(), with_bias ? dbias.floats() : nullptr,
                            accumulate);
            Matrix want = product;
            for (std::int64_t i = 0; i < rows; ++i) {
                for (std::int64_t j = 0; j < out; ++j) {
                    want(i, j) += (with_bias ? bias(0, j) : 0) + (accumulate ? y0(i, j) : 0);
                }
            }
            EXPECT_TRUE(close(y.values(), want)) << "bias " << with_bias << ", add " << accumulate;
        }
    }
}

TEST_P(Linear, BackwardAgreesWithDoubleLoops) {
    const auto [layout, rows, in, out, padding] = GetParam();
    const Matrix dy = random_matrix(rows, out, 1), w = random_matrix(out, in, 2),
                 dx0 = random_matrix(rows, in, 4);
    const DeviceWeight weight(backend_, w);
    const DeviceMatrix device_dy(backend_, dy, out + padding);
    for (const bool accumulate : {false, true}) {
        const DeviceMatrix dx(backend_, dx0, in + padding);
        backend_.linear_dx(dx.view(), device_dy.view(), weight.get(), accumulate);
        Matrix want = naive::multiply(dy, w);
        for (std::size_t i = 0; accumulate && i < want.values.size(); ++i) {
            want.values[i] += dx0.values[i];
        }
        EXPECT_TRUE(close(dx.values(), want)) << "add " << accumulate;
    }
}

TEST_P(Linear, WeightGradientAgreesWithDoubleLoops) {
    const auto [layout, rows, in, out, padding] = GetParam();
    const Matrix dy = random_matrix(rows, out, 1), x = random_matrix(rows, in, 2),
                 dw0 = random_matrix(out, in, 3), dbias0 = random_matrix(1, out, 4);
    const DeviceMatrix device_dy(backend_, dy, out + padding), device_x(backend_, x, in + padding),
        dw(backend_, dw0, in + padding), dbias(backend_, dbias0);
    backend_.linear_dw(dw.view(), dbias.floats(), device_dy.view(), device_x.view());
    Matrix want_dw = naive::multiply(transpose(dy), x), want_dbias = dbias0;
    for (std::size_t i = 0; i < want_dw.values.size(); ++i) want_dw.values[i] += dw0.values[i];
    for (std::int64_t t = 0; t < rows; ++t) {
        for (std::int64_t j = 0; j < out; ++j) want_dbias(0, j) += dy(t, j);
    }
    EXPECT_TRUE(close(dw.values(), want_dw));
    EXPECT_TRUE(close(dbias.values(), want_dbias));

    const DeviceMatrix alone(backend_, dbias0);
    backend_.linear_dw({}, alone.floats(), device_dy.view(), {});
    EXPECT_TRUE(same_bits(alone.values(), dbias.values())) << "the bias alone";
}

INSTANTIATE_TEST_SUITE_P(Shapes, Linear,
                         testing::Values(Case{WeightLayout::panels, 1, 1, 1, 0},
                                         Case{WeightLayout::panels, 7, 64, 48, 0},
                                         Case{WeightLayout::panels, 33, 130, 67, 6},
                                         Case{WeightLayout::panels, 70, 200, 300, 0},
                                         Case{WeightLayout::panels, 205, 530, 1061, 3},
                                         Case{WeightLayout::panels, 600, 8192, 3, 0},
                                         Case{WeightLayout::blocked, 1, 1, 1, 0},
                                         Case{WeightLayout::blocked, 7, 64, 48, 0},
                                         Case{WeightLayout::blocked, 33, 130, 67, 6}),
                         case_name);

/// Products on every back end; activations and weights have the same type.
struct Product {
    std::int64_t rows, in, out, padding;
};

Matrix sum(Matrix a, const Matrix& b) {
    for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] += b.values[i];
    return a;
}

Matrix repeated(const Matrix& row, std::int64_t rows) {
    return naive::multiply(Matrix(rows, 1, 1.0), row);
}

std::string name_of_product(const Product& p) {
    return std::to_string(p.rows) + "x" + std::to_string(p.in) + "x" + std::to_string(p.out) + "p" +
           std::to_string(p.padding);
}

class LinearOnEveryBackend : public OnEveryBackend<Product> {};

const auto product_name = named_by(name_of_product);

TEST_P(LinearOnEveryBackend, ForwardAgreesWithDoubleLoops) {
    const auto [rows, in, out, padding] = test_case();
    const Matrix x = random(rows, in, 1), w = random(out, in, 2), y0 = random(rows, out, 4),
                 bias = random_matrix(1, out, 3);
    const DeviceWeight weight(backend(), w, dtype());
    const DeviceMatrix device_x = activations(x, in + padding), device_bias(backend(), bias);
    const Matrix product = naive::multiply(x, transpose(w));
    for (const bool with_bias : {false, true}) {
        for (const bool accumulate : {false, true}) {
            const DeviceMatrix y = activations(y0, out + padding);
            backend().linear(y.view(), device_x.view(), weight.get(),
                             with_bias ? device_bias.floats() : nullptr, accumulate);
            Matrix want = product;
            if (with_bias) want = sum(want, repeated(bias, rows));
            if (accumulate) want = sum(want, y0);
            EXPECT_TRUE(close_enough(y.values(), want))
                << "bias " << with_bias << ", add " << accumulate;
        }
    }
    const DeviceMatrix logits(backend(), Shape{rows, out, out + padding});
    backend().linear(logits.view(), device_x.view(), weight.get(), nullptr, false);
    EXPECT_TRUE(close(logits.values(), product)) << "into fp32";
}

TEST_P(LinearOnEveryBackend, BackwardAgreesWithDoubleLoops) {
    const auto [rows, in, out, padding] = test_case();
    const Matrix dy = random(rows, out, 1), w = random(out, in, 2), dx0 = random(rows, in, 4);
    const DeviceWeight weight(backend(), w, dtype());
    const DeviceMatrix device_dy = activations(dy, out + padding);
    const Matrix product = naive::multiply(dy, w);
    for (const bool accumulate : {false, true}) {
        const DeviceMatrix dx = activations(dx0, in + padding);
        backend().linear_dx(dx.view(), device_dy.view(), weight.get(), accumulate);
        EXPECT_TRUE(close_enough(dx.values(), accumulate ? sum(product, dx0) : product))
            << "add " << accumulate;
    }
}

TEST_P(LinearOnEveryBackend, WeightGradientIsAddedInFp32) {
    const auto [rows, in, out, padding] = test_case();
    const Matrix dy = random(rows, out, 1), x = random(rows, in, 2),
                 dw0 = random_matrix(out, in, 3), dbias0 = random_matrix(1, out, 4);
    const DeviceMatrix device_dy = activations(dy, out + padding),
                       device_x = activations(x, in + padding), dw(backend(), dw0, in + padding),
                       dbias(backend(), dbias0);
    backend().linear_dw(dw.view(), dbias.floats(), device_dy.view(), device_x.view());
    EXPECT_TRUE(close(dw.values(), sum(naive::multiply(transpose(dy), x), dw0)));
    EXPECT_TRUE(close(dbias.values(), sum(naive::multiply(Matrix(1, rows, 1.0), dy), dbias0)));
}

TEST_P(LinearOnEveryBackend, RepackingOnTheDeviceIsPacking) {
    const auto [rows, in, out, padding] = test_case();
    const Matrix x = random(rows, in, 1), w = random_matrix(out, in, 2);
    const DeviceWeight packed(backend(), w, dtype());
    const DeviceMatrix values(backend(), w), device_x = activations(x), y = results({rows, out}),
                                             again = results({rows, out});
    DeviceBuffer memory(backend(), packed.get().bytes);
    PackedWeight repacked = packed.get();
    repacked.data = memory.data();
    backend().repack(memory.data(), dtype(), values.floats(), out, in);
    backend().linear(y.view(), device_x.view(), packed.get(), nullptr, false);
    backend().linear(again.view(), device_x.view(), repacked, nullptr, false);
    EXPECT_TRUE(same_bits(again.values(), y.values()));
}

TEST_P(LinearOnEveryBackend, PackingBf16IsPackingItsValues) {
    const auto [rows, in, out, padding] = test_case();
    const Matrix x = random(rows, in, 1), dy = random(rows, out, 3),
                 w = stored(random_matrix(out, in, 2), Dtype::bf16);
    // Two parts, at odd addresses.
    const std::int64_t above = (out + 1) / 2 * in;
    std::vector<std::byte> first(static_cast<std::size_t>(2 * above + 1)),
        second(static_cast<std::size_t>(2 * (out * in - above) + 1));
    for (std::int64_t i = 0; i < out * in; ++i) {
        const auto value = static_cast<float>(w.values[static_cast<std::size_t>(i)]);
        const auto bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
        std::byte* const part = i < above ? first.data() + 2 * i : second.data() + 2 * (i - above);
        std::memcpy(part + 1, &bits, 2);
    }
    const std::vector<std::span<const std::byte>> parts{std::span(first).subspan(1),
                                                        std::span(second).subspan(1)};
    const DeviceWeight packed(backend(), w, dtype());
    DeviceBuffer memory(backend(), packed.get().bytes);
    PackedWeight same = packed.get();
    same.data = memory.data();
    backend().pack_bf16(memory.data(), dtype(), parts, out, in);
    const DeviceMatrix device_x = activations(x), device_dy = activations(dy),
                       y = results({rows, out}), again = results({rows, out}),
                       dx = results({rows, in}), dx_again = results({rows, in});
    backend().linear(y.view(), device_x.view(), packed.get(), nullptr, false);
    backend().linear(again.view(), device_x.view(), same, nullptr, false);
    EXPECT_TRUE(same_bits(again.values(), y.values()));
    backend().linear_dx(dx.view(), device_dy.view(), packed.get(), false);
    backend().linear_dx(dx_again.view(), device_dy.view(), same, false);
    EXPECT_TRUE(same_bits(dx_again.values(), dx.values()));
}

INSTANTIATE_TEST_SUITE_P(Shapes, LinearOnEveryBackend,
                         on_every_backend({Product{1, 8, 8, 0}, Product{7, 64, 48, 0},
                                           Product{33, 130, 67, 6}, Product{70, 200, 300, 8},
                                           Product{130, 264, 200, 0}}),
                         product_name);

/// Depths that a back end may add in parts: of the forward, of dx, of dw.
class DeepLinear : public LinearOnEveryBackend {};

TEST_P(DeepLinear, AgreesWithDoubleLoops) {
    const auto [rows, in, out, padding] = test_case();
    const Matrix x = random(rows, in, 1), w = random(out, in, 2), dy = random(rows, out, 3),
                 dw0 = random_matrix(out, in, 4);
    const DeviceWeight weight(backend(), w, dtype());
    const DeviceMatrix device_x = activations(x, in + padding),
                       device_dy = activations(dy, out + padding), dw(backend(), dw0, in + padding);
    const auto agrees = [&](const Matrix& got, const Matrix& want) {
        return close(got, want, tolerance(1e-5));
    };
    for (const bool accumulate : {false, true}) {
        const DeviceMatrix y = activations(dy, out + padding), dx = activations(x, in + padding);
        backend().linear(y.view(), device_x.view(), weight.get(), nullptr, accumulate);
        backend().linear_dx(dx.view(), device_dy.view(), weight.get(), accumulate);
        const Matrix want_y = naive::multiply(x, transpose(w)), want_dx = naive::multiply(dy, w);
        EXPECT_TRUE(agrees(y.values(), accumulate ? sum(want_y, dy) : want_y)) << accumulate;
        EXPECT_TRUE(agrees(dx.values(), accumulate ? sum(want_dx, x) : want_dx)) << accumulate;
    }
    backend().linear_dw(dw.view(), nullptr, device_dy.view(), device_x.view());
    EXPECT_TRUE(agrees(dw.values(), sum(naive::multiply(transpose(dy), x), dw0)));
}

INSTANTIATE_TEST_SUITE_P(Shapes, DeepLinear,
                         on_every_backend({Product{3, 8229, 16, 3}, Product{2, 16, 8229, 5},
                                           Product{8229, 8, 8, 0}}),
                         product_name);

TEST(LinearRows, ZeroRowsAreFine) {
    CpuBackend backend(1);
    const DeviceWeight weight(backend, random_matrix(4, 3, 1));
    const DeviceMatrix y(backend, Shape{0, 4}), x(backend, Shape{0, 3});
    backend.linear(y.view(), x.view(), weight.get(), nullptr, false);
    EXPECT_EQ(y.values().values.size(), 0U);
}

/// y and dx of rows [first, first + rows) of 500, side by side.
Matrix forward_and_backward(const ProductChoice& choice, Dtype dtype, int threads,
                            std::int64_t first, std::int64_t rows) {
    CpuBackend backend(threads, choice);
    const std::int64_t in = 300, out = 77;
    const DeviceWeight weight(backend, random_matrix(out, in, 1), dtype);
    const DeviceMatrix x(backend, rows_of(random_matrix(500, in, 2), first, rows)),
        dy(backend, rows_of(random_matrix(500, out, 3), first, rows)), y(backend, Shape{rows, out}),
        dx(backend, Shape{rows, in});
    backend.linear(y.view(), x.view(), weight.get(), nullptr, false);
    backend.linear_dx(dx.view(), dy.view(), weight.get(), false);
    const Matrix forward = y.values(), backward = dx.values();
    Matrix both(rows, out + in);
    for (std::int64_t t = 0; t < rows; ++t) {
        for (std::int64_t j = 0; j < out; ++j) both(t, j) = forward(t, j);
        for (std::int64_t j = 0; j < in; ++j) both(t, out + j) = backward(t, j);
    }
    return both;
}

void expect_exact_rows(const ProductChoice& choice, Dtype dtype) {
    const auto product = [&](int threads, std::int64_t first, std::int64_t rows) {
        return forward_and_backward(choice, dtype, threads, first, rows);
    };
    const Matrix all = product(1, 0, 500);
    EXPECT_TRUE(same_bits(product(2, 0, 500), all));
    EXPECT_TRUE(same_bits(product(3, 0, 500), all));
    for (const auto& [first, rows] :
         {std::pair<std::int64_t, std::int64_t>{0, 1}, {7, 1}, {3, 5}, {194, 8}, {100, 300}}) {
        EXPECT_TRUE(same_bits(product(2, first, rows), rows_of(all, first, rows)))
            << rows << " rows from " << first;
    }
}

TEST(LinearRows, HaveTheSameBitsAloneAndInCompanyOnAnyNumberOfThreads) {
    expect_exact_rows(panels, Dtype::fp32);
}

TEST(LinearRows, OfTilesHaveTheSameBitsAloneAndInCompanyOnAnyNumberOfThreads) {
    expect_exact_rows(emulated_amx, Dtype::bf16);
}

TEST(LinearRows, OfThisCpuHaveTheSameBitsAloneAndInCompanyOnAnyNumberOfThreads) {
    const ProductChoice choice = ProductChoice::for_this_cpu();
    expect_exact_rows(choice, Dtype::fp32);
    if (is_native(choice.bf16)) expect_exact_rows(choice, Dtype::bf16);
}

TEST(LinearRows, OneThreadHasTheSameBitsWhereverTheOperandsLie) {
    CpuBackend backend(1);
    const std::int64_t rows = 37, in = 83, out = 59;
    const std::vector<float> values = to_floats(random_matrix(rows, in, 1));
    const DeviceWeight weight(backend, random_matrix(out, in, 2));
    Matrix first;
    for (const std::int64_t shift : {0, 1, 3, 8}) {
        // The same values begin `shift` floats after an aligned address.
        DeviceBuffer x_memory(backend, static_cast<std::size_t>((rows * in + shift) * 4));
        DeviceBuffer y_memory(backend, static_cast<std::size_t>((rows * out + shift) * 4));
        backend.upload(x_memory.floats() + shift, std::as_bytes(std::span(values)));
        backend.linear(fp32_view(y_memory.floats() + shift, rows, out),
                       fp32_view(x_memory.floats() + shift, rows, in), weight.get(), nullptr,
                       false);
        Matrix y(rows, out);
        std::copy_n(y_memory.floats() + shift, rows * out, y.values.begin());
        if (shift == 0) first = y;
        EXPECT_TRUE(same_bits(y, first)) << "shifted by " << shift << " floats";
    }
}

TEST(LinearRows, PackedBytesHoldNoAddress) {
    CpuBackend backend(1);
    const Matrix w = random_matrix(40, 24, 1), x = random_matrix(5, 24, 2);
    const DeviceWeight packed(backend, w);
    DeviceBuffer moved(backend, packed.get().bytes);
    backend.upload(moved.data(), {packed.get().data, packed.get().bytes});
    PackedWeight elsewhere = packed.get();
    elsewhere.data = moved.data();
    const DeviceMatrix dx(backend, x), y(backend, Shape{5, 40});
    backend.linear(y.view(), dx.view(), elsewhere, nullptr, false);
    EXPECT_TRUE(close(y.values(), naive::multiply(x, transpose(w))));
}

Matrix to_bf16(const Matrix& m) {
    return stored(m, Dtype::bf16);
}

/// Products of bf16 operands, summed in fp32: a pair of tiles and less, more, several blocks of the
/// depth and of columns.
class LinearBf16 : public testing::TestWithParam<Product> {};

TEST_P(LinearBf16, RoundsOperandsAndSumsInFp32) {
    const auto [rows, in, out, padding] = GetParam();
    const Matrix x = random_matrix(rows, in, 1), w = random_matrix(out, in, 2),
                 dy = random_matrix(rows, out, 3), bias = random_matrix(1, out, 4);
    const Matrix want_y = naive::multiply(to_bf16(x), transpose(to_bf16(w))),
                 want_dx = naive::multiply(to_bf16(dy), to_bf16(w));
    for (const ProductChoice& choice : {emulated, emulated_amx}) {
        CpuBackend backend(2, choice);
        const DeviceWeight weight(backend, w, Dtype::bf16);
        EXPECT_EQ(weight.get().bytes % 64, 0U);
        const DeviceMatrix device_x(backend, x, in + padding),
            device_dy(backend, dy, out + padding), device_bias(backend, bias);
        for (const bool add : {false, true}) {
            const DeviceMatrix y(backend, dy, out + padding), dx(backend, x, in + padding);
            backend.linear(y.view(), device_x.view(), weight.get(),
                           add ? device_bias.floats() : nullptr, add);
            backend.linear_dx(dx.view(), device_dy.view(), weight.get(), add);
            EXPECT_TRUE(
                close(y.values(), add ? sum(want_y, sum(dy, repeated(bias, rows))) : want_y));
            EXPECT_TRUE(close(dx.values(), add ? sum(want_dx, x) : want_dx));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LinearBf16,
                         testing::Values(Product{19, 70, 35, 7}, Product{1, 1, 1, 0},
                                         Product{32, 32, 32, 0}, Product{33, 64, 48, 0},
                                         Product{250, 1061, 33, 3}, Product{3, 31, 1100, 1}),
                         [](const auto& test) { return name_of_product(test.param); });

TEST(LinearBf16Choice, TilesHaveTheBitsOfTheirEmulation) {
    // Compares the emulation with itself where the CPU has no tile registers.
    const ProductChoice tiles{.bf16 = cpu::has_amx() ? Bf16Products::amx : emulated_amx.bf16};
    EXPECT_TRUE(same_bits(forward_and_backward(tiles, Dtype::bf16, 2, 0, 500),
                          forward_and_backward(emulated_amx, Dtype::bf16, 1, 0, 500)));
}

TEST(LinearBf16Choice, IsRefusedWithoutTheInstruction) {
    CpuBackend backend(1, {.bf16 = Bf16Products::absent});
    EXPECT_FALSE(backend.info().bf16);
    const std::vector<float> values(6);
    DeviceBuffer memory(backend, backend.packed_bytes(Dtype::bf16, 2, 3));
    try {
        backend.pack(memory.data(), Dtype::bf16, values, 2, 3);
        FAIL() << "bf16 was packed";
    } catch (const InputError& error) {
        EXPECT_NE(std::string(error.what()).find("avx512_bf16"), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("--dtype fp32"), std::string::npos)
            << error.what();
    }
}

TEST(MachineRate, IsPositive) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(2);
    EXPECT_GT(measure_product_rate(*backend, Dtype::fp32), 1e6);
    EXPECT_GT(measure_sustained_product_rate(*backend, Dtype::fp32, 0.01), 1e6);
}

}  // namespace
}  // namespace fedit::test
