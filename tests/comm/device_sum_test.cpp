// tests/comm/device_sum_test.cpp: words in back-end memory, summed over any number of ranks.
#include "fedit/comm/device_sum.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "comm/chunk.h"
#include "tests/support/backends.h"
#include "tests/support/mpi_test_main.h"

namespace fedit {
namespace {

using Words = std::vector<std::uint64_t>;

constexpr std::size_t chunk_words = chunk_bytes / sizeof(std::uint64_t);

/// The sum in the back end's memory, which the parts seen on the way must equal.
Words sum_in_backend(const DeviceSum& sum, Backend& backend, Words words) {
    const DeviceBuffer buffer(backend, words.size() * sizeof(std::uint64_t));
    backend.upload(buffer.data(), std::as_bytes(std::span(words)));
    Words seen;
    sum.sum({reinterpret_cast<std::uint64_t*>(buffer.data()), words.size()},
            [&](auto part) { seen.insert(seen.end(), part.begin(), part.end()); });
    backend.download(std::as_writable_bytes(std::span(words)), buffer.data());
    EXPECT_TRUE(seen == words);
    return words;
}

/// In host memory, in memory that the host cannot touch, and on a GPU where there is one.
class DeviceSums : public testing::TestWithParam<test::BackendKind> {
protected:
    std::unique_ptr<Backend> backend_ = test::make_backend(GetParam());
};

TEST_P(DeviceSums, AreModuloTwoToThe64) {
    const Communicator& comm = test::world();
    const auto ranks = static_cast<std::uint64_t>(comm.size());
    constexpr std::uint64_t top = std::uint64_t{1} << 63;
    constexpr std::uint64_t all_ones = std::numeric_limits<std::uint64_t>::max();

    const Words got = sum_in_backend(DeviceSum(comm, *backend_), *backend_,
                                     {top, all_ones, static_cast<std::uint64_t>(comm.rank())});

    EXPECT_EQ(got, (Words{ranks % 2 == 0 ? 0 : top, 0 - ranks, ranks * (ranks - 1) / 2}));
}

TEST_P(DeviceSums, TakeVectorsAroundTheSizeOfAChunk) {
    const Communicator& comm = test::world();
    const DeviceSum sum(comm, *backend_);
    const auto ranks = static_cast<std::uint64_t>(comm.size());
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, chunk_words + 1}) {
        Words words(size);
        for (std::size_t i = 0; i < size; ++i)
            words[i] = i + static_cast<std::uint64_t>(comm.rank());
        const Words got = sum_in_backend(sum, *backend_, words);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < size; ++i) {
            if (got[i] != ranks * i + ranks * (ranks - 1) / 2) ++wrong;
        }
        EXPECT_EQ(wrong, 0U) << "of " << size << " words";
    }
}

INSTANTIATE_TEST_SUITE_P(BackEnds, DeviceSums, testing::ValuesIn(test::fp32_backends()),
                         [](const testing::TestParamInfo<test::BackendKind>& kind) {
                             return test::to_string(kind.param);
                         });

TEST(DeviceSum, OfRanksThatShareADeviceGoesThroughHostMemory) {
    const auto backend = test::make_backend(test::BackendKind::guarded);
    const std::string way = DeviceSum(test::world(), *backend).way();
    EXPECT_EQ(way.substr(0, 23), "MPI through host memory") << way;
}

TEST(DeviceSum, TellsItsWay) {
    const auto backend = make_cpu_backend(1);
    EXPECT_EQ(DeviceSum(test::world(), *backend).way(),
              "MPI through host memory (not all ranks have a GPU)");
    EXPECT_EQ(DeviceSum(test::world(), *backend, SumChoice::mpi).way(),
              "MPI through host memory (as was asked for)");
}

}  // namespace
}  // namespace fedit
