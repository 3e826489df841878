// tests/tensor/cuda/product_test.cpp: carries out cuBLASLt's descriptions of our products on the
// CPU, as its documentation says it reads them. Rows, columns and strides all differ, so that
// operands in the wrong place show.
#include "tensor/cuda/product.h"

#include <array>
#include <bit>
#include <cstring>

#include "tests/support/compare.h"

namespace fedit::test {
namespace {

using cuda::ProductCall;
using cuda::ProductDescription;
using cuda::Result;

template <class T>
T attribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t name) {
    T value{};
    std::size_t written = 0;
    cuda::check(cublasLtMatmulDescGetAttribute(operation, name, &value, sizeof value, &written),
                "read a description");
    EXPECT_EQ(written, sizeof value);
    return value;
}

template <class T>
T attribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t name) {
    T value{};
    std::size_t written = 0;
    cuda::check(cublasLtMatrixLayoutGetAttribute(layout, name, &value, sizeof value, &written),
                "read a description");
    EXPECT_EQ(written, sizeof value);
    return value;
}

/// A column-major matrix as a layout describes it.
class ColumnMajor {
public:
    ColumnMajor(cublasLtMatrixLayout_t layout, const void* data)
        : rows(attribute<std::uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_ROWS)),
          cols(attribute<std::uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_COLS)),
          data_(static_cast<std::byte*>(const_cast<void*>(data))),
          ld_(attribute<std::int64_t>(layout, CUBLASLT_MATRIX_LAYOUT_LD)),
          type_(attribute<std::uint32_t>(layout, CUBLASLT_MATRIX_LAYOUT_TYPE)) {
        EXPECT_EQ(attribute<std::int32_t>(layout, CUBLASLT_MATRIX_LAYOUT_ORDER),
                  CUBLASLT_ORDER_COL);
        EXPECT_EQ(attribute<std::int32_t>(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT), 1);
        EXPECT_GE(ld_, static_cast<std::int64_t>(rows));
    }

    double get(std::uint64_t row, std::uint64_t col) const {
        if (type_ == CUDA_R_16BF) {
            std::uint16_t upper = 0;
            std::memcpy(&upper, at(row, col, 2), 2);
            return std::bit_cast<float>(std::uint32_t{upper} << 16);
        }
        EXPECT_EQ(type_, static_cast<std::uint32_t>(CUDA_R_32F));
        float value = 0;
        std::memcpy(&value, at(row, col, 4), 4);
        return value;
    }
    /// Writes an fp32 element.
    void set(std::uint64_t row, std::uint64_t col, double value) const {
        const auto rounded = static_cast<float>(value);
        std::memcpy(at(row, col, 4), &rounded, 4);
    }

    const std::uint64_t rows, cols;

private:
    std::byte* at(std::uint64_t row, std::uint64_t col, std::int64_t size) const {
        return data_ +
               (static_cast<std::int64_t>(col) * ld_ + static_cast<std::int64_t>(row)) * size;
    }

    std::byte* data_;
    std::int64_t ld_;
    std::uint32_t type_;
};

/// D = op(A) op(B) (+ D), from the descriptors and the three addresses alone; an element is one
/// chain of Sums.
template <class Sum = double>
void carry_out(const ProductCall& call) {
    const ProductDescription description(call.product);
    const cublasLtMatmulDesc_t operation = description.operation();
    const bool a_transposed =
        attribute<std::int32_t>(operation, CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_T;
    const bool b_transposed =
        attribute<std::int32_t>(operation, CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_T;
    const ColumnMajor a(description.a(), call.a), b(description.b(), call.b),
        d(description.d(), call.d);
    const std::uint64_t depth = a_transposed ? a.rows : a.cols;
    ASSERT_EQ(a_transposed ? a.cols : a.rows, d.rows);
    ASSERT_EQ(b_transposed ? b.rows : b.cols, d.cols);
    ASSERT_EQ(b_transposed ? b.cols : b.rows, depth);
    for (std::uint64_t i = 0; i < d.rows; ++i) {
        for (std::uint64_t j = 0; j < d.cols; ++j) {
            Sum sum = 0;
            for (std::uint64_t p = 0; p < depth; ++p) {
                sum += static_cast<Sum>((a_transposed ? a.get(p, i) : a.get(i, p)) *
                                        (b_transposed ? b.get(j, p) : b.get(p, j)));
            }
            if (call.product.result == Result::add) sum += static_cast<Sum>(d.get(i, j));
            d.set(i, j, sum);
        }
    }
}

/// What Products::multiply does.
template <class Sum = double>
void carry_out_in_parts(const ProductCall& call) {
    for (std::int64_t begin = 0; begin < call.product.k;
         begin += cuda::terms_at_once(call.product)) {
        const ProductCall part = cuda::part_of_depth(call, begin);
        EXPECT_EQ(part.product.alignment, call.product.alignment);
        for (const void* address : {part.a, part.b, static_cast<const void*>(part.d)}) {
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(address) %
                          static_cast<std::uintptr_t>(part.product.alignment),
                      0U);
        }
        carry_out<Sum>(part);
    }
}

/// A row-major matrix in host memory, with something else between its rows.
class HostMatrix {
public:
    HostMatrix(const Matrix& values, Dtype dtype, std::int64_t stride)
        : rows_(values.rows), cols_(values.cols), stride_(stride), dtype_(dtype) {
        const std::size_t size = size_of(dtype);
        memory_.resize(static_cast<std::size_t>(rows_ * stride_) * size, std::byte{0x7f});
        for (std::int64_t i = 0; i < rows_; ++i) {
            for (std::int64_t j = 0; j < cols_; ++j) {
                const auto value = static_cast<float>(values(i, j));
                const auto* bytes = reinterpret_cast<const std::byte*>(&value);
                std::memcpy(memory_.data() + static_cast<std::size_t>(i * stride_ + j) * size,
                            bytes + (4 - size), size);
            }
        }
    }
    TensorView view() { return {memory_.data(), dtype_, rows_, cols_, stride_}; }
    Matrix values() {
        Matrix m(rows_, cols_);
        for (std::int64_t i = 0; i < rows_; ++i) {
            for (std::int64_t j = 0; j < cols_; ++j) m(i, j) = view().row(i)[j];
        }
        return m;
    }

private:
    std::int64_t rows_, cols_, stride_;
    Dtype dtype_;
    std::vector<std::byte> memory_;
};

/// Random values that both types hold exactly: multiples of 1/8 up to 4.
Matrix coarse_matrix(std::int64_t rows, std::int64_t cols, std::uint32_t client) {
    Matrix m = random_matrix(rows, cols, client);
    for (double& value : m.values) value = std::clamp(std::round(value * 8) / 8, -4.0, 4.0);
    return m;
}

Matrix sum(Matrix a, const Matrix& b) {
    for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] += b.values[i];
    return a;
}

constexpr std::int64_t rows = 5, in = 7, out = 11;

class ProductDescriptors : public testing::TestWithParam<Dtype> {};

TEST_P(ProductDescriptors, OfTheForwardAreXTimesWTransposed) {
    const Matrix x = coarse_matrix(rows, in, 1), w = coarse_matrix(out, in, 2),
                 y0 = coarse_matrix(rows, out, 3);
    HostMatrix host_x(x, GetParam(), 19), host_w(w, GetParam(), 13);
    for (const Result result : {Result::write, Result::add}) {
        HostMatrix y(y0, Dtype::fp32, 17);
        carry_out(cuda::forward(y.view(), host_x.view(), host_w.view(), result));
        const Matrix product = naive::multiply(x, transpose(w));
        EXPECT_TRUE(close(y.values(), result == Result::add ? sum(product, y0) : product));
    }
}

TEST_P(ProductDescriptors, OfTheInputGradientAreDyTimesW) {
    const Matrix dy = coarse_matrix(rows, out, 1), w = coarse_matrix(out, in, 2),
                 dx0 = coarse_matrix(rows, in, 3);
    HostMatrix host_dy(dy, GetParam(), 19), host_w(w, GetParam(), 13);
    for (const Result result : {Result::write, Result::add}) {
        HostMatrix dx(dx0, Dtype::fp32, 17);
        carry_out(cuda::input_gradient(dx.view(), host_dy.view(), host_w.view(), result));
        const Matrix product = naive::multiply(dy, w);
        EXPECT_TRUE(close(dx.values(), result == Result::add ? sum(product, dx0) : product));
    }
}

TEST_P(ProductDescriptors, OfTheWeightGradientAddDyTransposedTimesX) {
    const Matrix dy = coarse_matrix(rows, out, 1), x = coarse_matrix(rows, in, 2),
                 dw0 = coarse_matrix(out, in, 3);
    HostMatrix host_dy(dy, GetParam(), 19), host_x(x, GetParam(), 13), dw(dw0, Dtype::fp32, 17);
    carry_out(cuda::weight_gradient(dw.view(), host_dy.view(), host_x.view()));
    EXPECT_TRUE(close(dw.values(), sum(naive::multiply(transpose(dy), x), dw0)));
}

INSTANTIATE_TEST_SUITE_P(Types, ProductDescriptors, testing::Values(Dtype::fp32, Dtype::bf16),
                         [](const auto& test) { return std::string(to_string(test.param)); });

constexpr std::int64_t deep = 2 * cuda::longest_chain + 37;

TEST_P(ProductDescriptors, OfAllPartsOfADeepForwardAreXTimesWTransposed) {
    const Matrix x = coarse_matrix(2, deep, 1), w = coarse_matrix(3, deep, 2),
                 y0 = coarse_matrix(2, 3, 3);
    HostMatrix host_x(x, GetParam(), deep + 1), host_w(w, GetParam(), deep + 2);
    for (const Result result : {Result::write, Result::add}) {
        HostMatrix y(y0, Dtype::fp32, 5);
        carry_out_in_parts(cuda::forward(y.view(), host_x.view(), host_w.view(), result));
        const Matrix product = naive::multiply(x, transpose(w));
        EXPECT_TRUE(close(y.values(), result == Result::add ? sum(product, y0) : product));
    }
}

TEST_P(ProductDescriptors, OfAllPartsOfADeepInputGradientAreDyTimesW) {
    const Matrix dy = coarse_matrix(2, deep, 1), w = coarse_matrix(deep, 3, 2),
                 dx0 = coarse_matrix(2, 3, 3);
    HostMatrix host_dy(dy, GetParam(), deep + 1), host_w(w, GetParam(), 4);
    for (const Result result : {Result::write, Result::add}) {
        HostMatrix dx(dx0, Dtype::fp32, 5);
        carry_out_in_parts(cuda::input_gradient(dx.view(), host_dy.view(), host_w.view(), result));
        const Matrix product = naive::multiply(dy, w);
        EXPECT_TRUE(close(dx.values(), result == Result::add ? sum(product, dx0) : product));
    }
}

TEST_P(ProductDescriptors, OfAllPartsOfADeepWeightGradientAddDyTransposedTimesX) {
    const Matrix dy = coarse_matrix(deep, 2, 1), x = coarse_matrix(deep, 3, 2),
                 dw0 = coarse_matrix(2, 3, 3);
    HostMatrix host_dy(dy, GetParam(), 3), host_x(x, GetParam(), 4), dw(dw0, Dtype::fp32, 5);
    carry_out_in_parts(cuda::weight_gradient(dw.view(), host_dy.view(), host_x.view()));
    EXPECT_TRUE(close(dw.values(), sum(naive::multiply(transpose(dy), x), dw0)));
}

TEST(ProductDepth, IsSummedInPartsWhereOneChainWouldCostDigits) {
    // What the loss hands over: small terms of either sign, and one that outweighs them.
    constexpr std::int64_t vocab = 300000;
    Matrix dy = random_matrix(1, vocab, 1, 1e-6);
    for (double& value : dy.values) value = std::abs(value);
    dy(0, 1000) = -0.5;
    const Matrix w = random_matrix(vocab, 1, 2), want = naive::multiply(dy, w);
    HostMatrix host_dy(dy, Dtype::fp32, vocab), host_w(w, Dtype::fp32, 1), dx(want, Dtype::fp32, 1),
        chain(want, Dtype::fp32, 1);
    carry_out_in_parts<float>(
        cuda::input_gradient(dx.view(), host_dy.view(), host_w.view(), Result::write));
    EXPECT_TRUE(close(dx.values(), want));
    carry_out<float>(
        cuda::input_gradient(chain.view(), host_dy.view(), host_w.view(), Result::write));
    EXPECT_FALSE(close(chain.values(), want)) << "so the test would not show a long chain";
}

TEST(ProductDepth, IsWholeForBf16AndForWhatIsNotDeep) {
    cuda::Product product{.m = 8, .n = 8, .k = 100000, .operands = Dtype::bf16};
    EXPECT_EQ(cuda::terms_at_once(product), 100000);
    product.operands = Dtype::fp32, product.output = Dtype::bf16;
    EXPECT_EQ(cuda::terms_at_once(product), 100000);
    product.output = Dtype::fp32;
    EXPECT_EQ(cuda::terms_at_once(product), cuda::longest_chain);
    product.k = 100;
    EXPECT_EQ(cuda::terms_at_once(product), 100);
}

TEST(ProductTypes, SumInFp32AndNeverInLess) {
    for (const Dtype dtype : {Dtype::fp32, Dtype::bf16}) {
        const ProductDescription description(
            {.m = 8, .n = 8, .k = 8, .lda = 8, .ldb = 8, .ldd = 8, .operands = dtype});
        const cublasLtMatmulDesc_t operation = description.operation();
        EXPECT_EQ(attribute<std::int32_t>(operation, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE),
                  dtype == Dtype::fp32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F);
        EXPECT_EQ(attribute<std::int32_t>(operation, CUBLASLT_MATMUL_DESC_SCALE_TYPE), CUDA_R_32F);
    }
}

TEST(ProductAlignment, IsTheLeastOfTheThreeAddresses) {
    alignas(64) std::array<std::byte, 256> memory{};
    const auto alignment = [&](int y, int x, int w) {
        const auto view = [&](int offset) {
            return TensorView{memory.data() + offset, Dtype::bf16, 2, 2, 2};
        };
        return cuda::forward(view(y), view(x), view(w), Result::write).product.alignment;
    };
    EXPECT_EQ(alignment(0, 64, 128), 16);
    EXPECT_EQ(alignment(0, 48, 32), 16);
    EXPECT_EQ(alignment(8, 64, 128), 8);
    EXPECT_EQ(alignment(0, 12, 32), 4);
    EXPECT_EQ(alignment(0, 16, 2), 2);
}

}  // namespace
}  // namespace fedit::test
