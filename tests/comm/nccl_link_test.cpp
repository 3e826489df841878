// tests/comm/nccl_link_test.cpp: NCCL as this build has it, and on a GPU the sum of one rank.
#include "comm/nccl_link.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "fedit/comm/device_sum.h"
#include "fedit/core/error.h"
#include "fedit/tensor/backend.h"

namespace fedit {
namespace {

constexpr std::chrono::seconds patience{60};

TEST(NcclLink, KnowsWhatTheBuildHasAndWhatWasLoaded) {
    const NcclVersions versions = NcclLink::versions();
    if (versions.built == 0) {
        EXPECT_EQ(versions.loaded, 0);
        EXPECT_EQ(nccl_library(), "not in this build");
        EXPECT_THROW(NcclLink::make_id(), RunError);
        EXPECT_THROW(NcclLink({}, 0, 1, patience), RunError);
        return;
    }
    EXPECT_GE(versions.loaded, versions.built) << nccl_library();
}

TEST(NcclLink, RefusesAnIdThatIsNone) {
    EXPECT_THROW(NcclLink(Bytes(3), 0, 1, patience), RunError);
}

std::vector<std::uint64_t> sum_alone(NcclLink& link, Backend& backend,
                                     std::vector<std::uint64_t> words) {
    const DeviceBuffer memory(backend, words.size() * sizeof(std::uint64_t));
    backend.upload(memory.data(), std::as_bytes(std::span(words)));
    link.sum({reinterpret_cast<std::uint64_t*>(memory.data()), words.size()});
    backend.download(std::as_writable_bytes(std::span(words)), memory.data());
    return words;
}

/// What can be seen of NCCL with one GPU: connecting, summing, and letting go.
TEST(NcclLinkOnCuda, SumsOneRankToItself) {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU here";
    if (NcclLink::versions().built == 0) GTEST_SKIP() << "no NCCL in this build";
    const auto backend = make_cuda_backend(0);
    NcclLink link(NcclLink::make_id(), 0, 1, patience);
    std::vector<std::uint64_t> words(1000003);
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = i * 0x9E3779B97F4A7C15;
    EXPECT_TRUE(sum_alone(link, *backend, words) == words);
    EXPECT_TRUE(sum_alone(link, *backend, {}).empty());
    EXPECT_TRUE(sum_alone(link, *backend, {~std::uint64_t{0}}).front() == ~std::uint64_t{0});
}

}  // namespace
}  // namespace fedit
