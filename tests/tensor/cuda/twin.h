// tests/tensor/cuda/twin.h: what twin tests share: operands like a GPU's, runs of kernels on the
// CPU in both orders of warps and twice, and the check that every barrier is needed.
//
// A twin test runs the launch template beside a kernel (`launch_rms_norm`), so all but the `<<<>>>`
// is tested: the choice of instantiation and grid, and the kernel.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/support/compare.h"
#include "tests/tensor/cuda/emulate.h"

namespace fedit::test {

/// Rows, columns, stride of rows (0: dense), elements between a 16-byte boundary and the first row.
struct TwinCase {
    std::int64_t rows, cols, stride, offset;
    Dtype dtype;

    std::int64_t row_stride() const { return stride == 0 ? cols : stride; }
};
std::string twin_name(const testing::TestParamInfo<TwinCase>& test);
/// One row, odd widths, strides, unaligned starts, rows longer than a block; fp32 and bf16.
std::vector<TwinCase> twin_cases();

/// What a bf16 would hold; as it is for fp32.
Matrix rounded_to(Dtype dtype, Matrix m);

/// A matrix in memory that only kernels and this class touch. What lies around rows is watched.
class HostMatrix {
public:
    HostMatrix(const Matrix& values, Dtype dtype, std::int64_t stride = 0, std::int64_t offset = 0);
    /// Rows and placement of a case; with other columns, the same padding between rows.
    HostMatrix(const Matrix& values, const TwinCase& placed)
        : HostMatrix(values, placed.dtype, values.cols + placed.row_stride() - placed.cols,
                     placed.offset) {}

    TensorView view();
    float* floats() { return static_cast<float*>(view().data); }
    /// Fails the test if a byte outside the rows was written to.
    Matrix values() const;

private:
    std::size_t place(std::int64_t row, std::int64_t column) const;  ///< in bytes

    std::int64_t rows_, cols_, stride_, offset_;
    Dtype dtype_;
    struct alignas(16) Line {
        std::byte bytes[16];
    };
    std::vector<Line> memory_;
};

/// A matrix that holds NaN: an output nobody may read.
Matrix poisoned(std::int64_t rows, std::int64_t cols);

/// An operation on fresh operands whose kernels `launch` starts; returns all outputs.
using Twin = std::function<std::vector<Matrix>(const emulate::Launch& launch)>;

/// The outputs; the test fails unless both orders of warps, and a second run, give the same bits.
std::vector<Matrix> run_twin(const Twin& twin);

/// Whether the kernels of src/tensor/cuda/`file` need every barrier in their text: with any one
/// left out, `twin` changes a bit or cannot end, in one of the orders. All must be reached.
testing::AssertionResult every_barrier_matters(const std::string& file, const Twin& twin);

/// Roots of sums of squares: of got - want, and of want.
struct Deviation {
    double error = 0, norm = 0;
};
Deviation deviation(const Matrix& got, const Matrix& want);

/// `close` with the tolerance of an element type.
testing::AssertionResult agrees(const Matrix& got, const Matrix& want, Dtype dtype,
                                double summed = 0);

}  // namespace fedit::test
