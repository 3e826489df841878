// comm/sum_way.h: whether the ranks can sum by NCCL, decided from what all of them said.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "fedit/comm/device_sum.h"

namespace fedit {

/// What a rank tells the others before they choose.
struct RankDevice {
    std::int64_t node = 0;  ///< the same number on all ranks of a node, and on no other
    std::string bus_id;     ///< of its GPU on that node; empty: it computes on the CPU
    int nccl_built = 0;     ///< NCCL that its program was compiled with, 22809; 0: none
    int nccl_loaded = 0;    ///< NCCL that it found when it started
};

struct SumWay {
    bool nccl = false;
    std::string text;  ///< for people
};

/// A pure function of its arguments, which are the same on all ranks; so all choose alike. Ranks
/// that share a card, or have parts of one, which NCCL refuses, send all ranks to MPI.
SumWay choose_sum_way(SumChoice choice, std::span<const RankDevice> ranks);

/// 22809 as "2.28.9".
std::string nccl_version_text(int version);

}  // namespace fedit
