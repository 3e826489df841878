// comm/nccl_stub/nccl_link.cpp: stands where the connection by NCCL would be in a build without it.
#include "comm/nccl_link.h"

#include "fedit/core/error.h"

namespace fedit {

namespace {

[[noreturn]] void fail() {
    throw RunError({.what = "no NCCL is in this build",
                    .where = "sum over the ranks' GPUs",
                    .remedy = "build fedit with the preset cuda"});
}

}  // namespace

struct NcclLink::Impl {};

NcclVersions NcclLink::versions() {
    return {};
}

Bytes NcclLink::make_id() {
    fail();
}

NcclLink::NcclLink(std::span<const std::byte>, int, int, std::chrono::seconds) {
    fail();
}

NcclLink::~NcclLink() = default;

void NcclLink::sum(std::span<std::uint64_t>) {
    fail();
}

}  // namespace fedit
