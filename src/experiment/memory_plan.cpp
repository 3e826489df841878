// experiment/memory_plan.cpp: adds up a run's memory and refuses what does not fit.
#include "experiment/memory_plan.h"

#include <fmt/format.h>

#include "fedit/core/error.h"
#include "fedit/core/progress.h"

namespace fedit {

namespace {

std::string bytes(std::size_t count) {
    return format_bytes(static_cast<std::int64_t>(count));
}

}  // namespace

std::size_t MemoryPlan::needed() const {
    return base + static_cast<std::size_t>(ranks_on_node) * (training + records + round);
}

std::string MemoryPlan::text() const {
    return fmt::format(
        "memory of a node: {} = base model {} + {} rank(s) x (training {}, records {}, round {}); "
        "there are {}",
        bytes(needed()), bytes(base), ranks_on_node, bytes(training), bytes(records), bytes(round),
        bytes(device));
}

void MemoryPlan::require_fits() const {
    if (needed() <= device) return;
    throw InputError(
        {.what = "the run does not fit into memory",
         .where = text(),
         .remedy = "lower --micro-batch-size or --cutoff-len, or start fewer ranks a node"});
}

}  // namespace fedit
