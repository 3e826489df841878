// comm/sum_way.cpp: the rules of the choice between NCCL and MPI.
#include "comm/sum_way.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace fedit {

namespace {

/// Two ranks on one card, in words; nothing if each has its own.
std::optional<std::string> shared_card(std::span<const RankDevice> ranks) {
    std::map<std::pair<std::int64_t, std::string>, std::size_t> seen;
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
        const auto [place, fresh] = seen.try_emplace({ranks[rank].node, ranks[rank].bus_id}, rank);
        if (!fresh)
            return fmt::format("ranks {} and {} share the card {}", place->second, rank,
                               ranks[rank].bus_id);
    }
    return std::nullopt;
}

/// Why NCCL cannot serve these ranks, or nothing.
std::optional<std::string> obstacle(SumChoice choice, std::span<const RankDevice> ranks) {
    if (choice == SumChoice::mpi) return "as was asked for";
    if (std::ranges::any_of(ranks, [](const RankDevice& r) { return r.bus_id.empty(); }))
        return "not all ranks have a GPU";
    if (ranks.size() == 1) return "there is one rank";
    const RankDevice& first = ranks.front();
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
        const RankDevice& mine = ranks[rank];
        if (mine.nccl_built == 0) return "no NCCL is in this build";
        if (mine.nccl_loaded < mine.nccl_built)
            return fmt::format("rank {} found NCCL {}, older than {}, which it was built with",
                               rank, nccl_version_text(mine.nccl_loaded),
                               nccl_version_text(mine.nccl_built));
        if (mine.nccl_loaded != first.nccl_loaded)
            return fmt::format("rank 0 found NCCL {}, rank {} found {}",
                               nccl_version_text(first.nccl_loaded), rank,
                               nccl_version_text(mine.nccl_loaded));
    }
    return shared_card(ranks);
}

}  // namespace

SumWay choose_sum_way(SumChoice choice, std::span<const RankDevice> ranks) {
    if (const std::optional<std::string> why = obstacle(choice, ranks))
        return {.nccl = false, .text = fmt::format("MPI through host memory ({})", *why)};
    return {.nccl = true, .text = "NCCL " + nccl_version_text(ranks.front().nccl_loaded)};
}

std::string nccl_version_text(int version) {
    return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace fedit
