// experiment/memory_plan.cpp: adds up a run's memory and refuses what does not fit.
#include "experiment/memory_plan.h"

#include <fmt/format.h>

#include <vector>

#include "fedit/core/error.h"
#include "fedit/core/progress.h"

namespace fedit {

namespace {

std::string bytes(std::size_t count) {
    return format_bytes(static_cast<std::int64_t>(count));
}

std::size_t times(int ranks, std::size_t each) {
    return static_cast<std::size_t>(ranks) * each;
}

}  // namespace

std::size_t MemoryPlan::needed_on_device() const {
    return on_device() ? base + times(ranks_on_device, training + sum + overhead) : 0;
}

std::size_t MemoryPlan::needed_on_node() const {
    const std::size_t host = times(ranks_on_node, records + round);
    return on_device() ? host : base + times(ranks_on_node, training + sum) + host;
}

std::string MemoryPlan::training_text() const {
    return cohort > 1 ? fmt::format("training {} for {} clients at once", bytes(training), cohort)
                      : fmt::format("training {}", bytes(training));
}

std::string MemoryPlan::device_text() const {
    if (!on_device()) return "";
    return fmt::format(
        "memory of a device: {} = base model {} + {} rank(s) x ({}, sum {}, libraries {}); {} has "
        "{}",
        bytes(needed_on_device()), bytes(base), ranks_on_device, training_text(), bytes(sum),
        bytes(overhead), device_name, bytes(device));
}

std::string MemoryPlan::node_text() const {
    if (on_device()) {
        return fmt::format(
            "memory of a node: {} = {} rank(s) x (records {}, round {}); there are {}",
            bytes(needed_on_node()), ranks_on_node, bytes(records), bytes(round), bytes(node));
    }
    return fmt::format(
        "memory of a node: {} = base model {} + {} rank(s) x ({}, records {}, round {}); there are "
        "{}",
        bytes(needed_on_node()), bytes(base), ranks_on_node, training_text(), bytes(records),
        bytes(round + sum), bytes(node));
}

void MemoryPlan::require_fits() const {
    std::vector<Fault> faults;
    const std::string lower =
        fmt::format("lower {}--micro-batch-size or --cutoff-len, give --recompute layer, ",
                    cohort > 1 ? "--cohort, " : "");
    if (needed_on_device() > device) {
        faults.push_back({.what = "the run does not fit into a device's memory",
                          .where = device_text(),
                          .remedy = lower + "or start fewer ranks a device"});
    }
    if (needed_on_node() > node) {
        faults.push_back({.what = "the run does not fit into memory",
                          .where = node_text(),
                          .remedy = (on_device() ? "" : lower + "or ") +
                                    std::string("start fewer ranks a node")});
    }
    if (!faults.empty()) throw InputError(std::move(faults));
}

}  // namespace fedit
