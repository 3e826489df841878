// tests/tensor/cuda/twin.cpp: operands of twin tests and the ways in which a twin is run.
#include "tests/tensor/cuda/twin.h"

#include <fstream>

#include "tests/support/shared_data.h"

namespace fedit::test {

namespace {

constexpr auto untouched = std::byte{0xa5};

float load_as(Dtype dtype, const std::byte* from) {
    if (dtype == Dtype::fp32) {
        float value = 0;
        std::memcpy(&value, from, sizeof value);
        return value;
    }
    cuda::Bf16 value{};
    std::memcpy(&value, from, sizeof value);
    return cuda::to_float(value);
}

void store_as(Dtype dtype, std::byte* to, float value) {
    if (dtype == Dtype::fp32) {
        std::memcpy(to, &value, sizeof value);
    } else {
        const cuda::Bf16 narrow = cuda::to_bf16(value);
        std::memcpy(to, &narrow, sizeof narrow);
    }
}

std::vector<Matrix> run_with(const Twin& twin, const emulate::Settings& settings) {
    return twin(emulate::Launch(settings));
}

bool equal(const std::vector<Matrix>& a, const std::vector<Matrix>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const Matrix& x, const Matrix& y) { return bool{same_bits(x, y)}; });
}

/// Whether the twin ends and has these outputs with a barrier left out.
bool unchanged_without(const emulate::Site& site, const Twin& twin,
                       const std::vector<Matrix>& want) {
    for (const auto order : {emulate::Order::first_to_last, emulate::Order::last_to_first}) {
        try {
            if (!equal(run_with(twin, {.order = order, .without = site}), want)) return false;
        } catch (const std::exception&) {
            return false;
        }
    }
    return true;
}

/// How often the text of a kernel file says __syncthreads().
std::size_t barriers_in(const std::string& file) {
    std::ifstream text(source_path("src/tensor/cuda/" + file));
    std::size_t count = 0;
    for (std::string line; std::getline(text, line);) {
        const std::string code = line.substr(0, line.find("//"));
        if (code.find("__syncthreads()") != std::string::npos) ++count;
    }
    return count;
}

}  // namespace

std::string twin_name(const testing::TestParamInfo<TwinCase>& test) {
    const TwinCase& c = test.param;
    std::string name = shape_name({c.rows, c.cols, c.stride});
    if (c.offset != 0) name += "at" + std::to_string(c.offset);
    return name + "_" + std::string(to_string(c.dtype));
}

std::vector<TwinCase> twin_cases() {
    std::vector<TwinCase> cases;
    for (const Dtype dtype : {Dtype::fp32, Dtype::bf16}) {
        cases.push_back({1, 1, 0, 0, dtype});
        cases.push_back({7, 64, 0, 0, dtype});     // whole vectors
        cases.push_back({5, 264, 272, 8, dtype});  // the same with strides
        cases.push_back({4, 130, 137, 3, dtype});  // odd: an element at a time
        cases.push_back({3, 64, 0, 1, dtype});     // unaligned start
        cases.push_back({2, 4104, 0, 0, dtype});   // longer than a block
        cases.push_back({2, 515, 520, 0, dtype});  // the same an element at a time
    }
    return cases;
}

Deviation deviation(const Matrix& got, const Matrix& want) {
    Deviation squares;
    for (std::size_t i = 0; i < want.values.size(); ++i) {
        squares.error += std::pow(got.values[i] - want.values[i], 2);
        squares.norm += std::pow(want.values[i], 2);
    }
    return {std::sqrt(squares.error), std::sqrt(squares.norm)};
}

Matrix rounded_to(Dtype dtype, Matrix m) {
    if (dtype == Dtype::bf16) {
        for (double& value : m.values) {
            value = cuda::to_float(cuda::to_bf16(static_cast<float>(value)));
        }
    }
    return m;
}

HostMatrix::HostMatrix(const Matrix& values, Dtype dtype, std::int64_t stride, std::int64_t offset)
    : rows_(values.rows),
      cols_(values.cols),
      stride_(stride == 0 ? values.cols : stride),
      offset_(offset),
      dtype_(dtype),
      memory_(place(values.rows, 0) / sizeof(Line) + 1) {
    std::memset(memory_.data(), static_cast<int>(untouched), memory_.size() * sizeof(Line));
    for (std::int64_t i = 0; i < rows_; ++i) {
        for (std::int64_t j = 0; j < cols_; ++j) {
            store_as(dtype_, memory_.data()->bytes + place(i, j), static_cast<float>(values(i, j)));
        }
    }
}

std::size_t HostMatrix::place(std::int64_t row, std::int64_t column) const {
    return static_cast<std::size_t>(offset_ + row * stride_ + column) * size_of(dtype_);
}

TensorView HostMatrix::view() {
    return {memory_.data()->bytes + place(0, 0), dtype_, rows_, cols_, stride_};
}

Matrix HostMatrix::values() const {
    const std::byte* const bytes = memory_.data()->bytes;
    Matrix result(rows_, cols_);
    std::size_t end = 0;
    const auto expect_untouched = [&](std::size_t until) {
        for (; end < until; ++end) {
            if (bytes[end] != untouched) ADD_FAILURE() << "byte " << end << " was written to";
        }
    };
    for (std::int64_t i = 0; i < rows_; ++i) {
        expect_untouched(place(i, 0));
        for (std::int64_t j = 0; j < cols_; ++j)
            result(i, j) = load_as(dtype_, bytes + place(i, j));
        end = place(i, cols_);
    }
    expect_untouched(memory_.size() * sizeof(Line));
    return result;
}

Matrix poisoned(std::int64_t rows, std::int64_t cols) {
    return Matrix(rows, cols, NAN);
}

std::vector<Matrix> run_twin(const Twin& twin) {
    std::vector<Matrix> result = run_with(twin, {.order = emulate::Order::first_to_last});
    EXPECT_TRUE(equal(run_with(twin, {.order = emulate::Order::first_to_last}), result))
        << "bits differ in a second run";
    EXPECT_TRUE(equal(run_with(twin, {.order = emulate::Order::last_to_first}), result))
        << "bits differ when the last warp goes first";
    return result;
}

testing::AssertionResult every_barrier_matters(const std::string& file, const Twin& twin) {
    std::set<emulate::Site> sites;
    const std::vector<Matrix> want = run_with(twin, {.sites = &sites});
    std::erase_if(sites, [&](const auto& site) { return !site.file.ends_with("/" + file); });
    if (sites.size() != barriers_in(file)) {
        return testing::AssertionFailure() << file << " has " << barriers_in(file) << " barriers, "
                                           << sites.size() << " were reached";
    }
    if (sites.empty()) return testing::AssertionFailure() << file << " has no barrier";
    for (const emulate::Site& site : sites) {
        if (unchanged_without(site, twin, want)) {
            return testing::AssertionFailure()
                   << "nothing changes without the barrier of " << file << ":" << site.line;
        }
    }
    return testing::AssertionSuccess();
}

testing::AssertionResult agrees(const Matrix& got, const Matrix& want, Dtype dtype, double summed) {
    return close(got, want, dtype == Dtype::fp32 ? 40 * 6e-8 : 4e-3, summed);
}

}  // namespace fedit::test
