// app/bench_aggregation.cpp: `fedit bench` with several ranks: how long a round's end takes, from
// trained clients to the next global adapter.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <vector>

#include "app/bench.h"
#include "app/commands.h"
#include "app/sheet.h"
#include "fedit/comm/device_sum.h"
#include "fedit/core/error.h"
#include "fedit/experiment/round.h"
#include "fedit/experiment/session.h"
#include "fedit/federation/aggregate.h"
#include "fedit/io/json.h"
#include "fedit/model/adapter.h"

namespace fedit {
namespace {

using Clock = std::chrono::steady_clock;

/// What each figure is a share of.
constexpr double seconds_of_a_round = 60;

/// Seconds of the parts of one aggregation, as the slowest rank sees them.
struct Parts {
    double add = 0;  ///< screen and add one client's update
    double sum = 0;  ///< over the ranks, with server step and the checksum that all compare
    double total() const { return add + sum; }
};

/// Seconds since the last call; all ranks begin the next part together.
class Lap {
public:
    explicit Lap(const Communicator& comm) : comm_(comm) { comm_.barrier(); }
    double take() {
        const std::chrono::duration<double> mine = Clock::now() - start_;
        const double slowest = static_cast<double>(comm_.max(std::llround(mine.count() * 1e9)));
        start_ = Clock::now();
        return slowest * 1e-9;
    }

private:
    const Communicator& comm_;
    Clock::time_point start_ = Clock::now();
};

Layout adapter_layout(const Config& config) {
    const std::string path = config.model_config.empty()
                                 ? (std::filesystem::path(config.model) / "config.json").string()
                                 : config.model_config;
    return make_lora_layout(parse_model_config(Json::parse(read_text_file(path), path)),
                            lora_config(config));
}

Parts aggregate_once(const Communicator& comm, OrderFreeSum& sum, const DeviceSum& rank_sum,
                     const std::vector<float>& client, std::vector<float>& global) {
    sum.clear();
    Parts parts;
    Lap lap(comm);
    if (const auto reason = sum.add(client, global, 1.0 / comm.size(), 1))
        throw RunError({.what = "the made-up update was refused: it " + *reason,
                        .where = "bench",
                        .remedy = "this is a mistake in fedit: report it with the command"});
    parts.add = lap.take();
    ServerStep step(global, comm.size(), comm.size());
    rank_sum.sum(sum.words(), [&](auto words) { step.take(words); });
    require_same_adapter(comm, step.checksum(), "bench");
    parts.sum = lap.take();
    return parts;
}

}  // namespace

ExitCode bench_aggregation(const Context& context, const Config& config) {
    const Communicator& comm = context.comm;
    Layout layout;
    comm.together("lay out the adapter", [&] { layout = adapter_layout(config); });
    const Machine machine = choose_machine(config, comm);
    const DeviceSum rank_sum(comm, *machine.backend, sum_choice(config));
    std::vector<float> global = initial_adapter(layout, static_cast<std::uint64_t>(config.seed));
    std::vector<float> client = global;
    for (std::size_t i = 0; i < client.size(); ++i)
        client[i] += 1e-3F * static_cast<float>((i + static_cast<std::size_t>(comm.rank())) % 17);
    OrderFreeSum sum(*machine.backend, global.size());
    std::vector<Parts> times;
    for (std::int64_t step = 0; step <= config.bench_steps; ++step)
        times.push_back(aggregate_once(comm, sum, rank_sum, client, global));
    times.erase(times.begin());  // the warm-up
    const auto middle = times.begin() + std::ssize(times) / 2;
    std::ranges::nth_element(times, middle, {}, &Parts::total);

    const DeviceInfo device = machine.backend->info();
    Sheet sheet;
    sheet.fact("device", device.model);
    sheet.fact("ranks", static_cast<std::int64_t>(comm.size()));
    sheet.fact("summed_by", rank_sum.way());
    sheet.fact("adapter_parameters", layout.size);
    sheet.fact("adapter_bytes", layout.size * std::int64_t{sizeof(float)});
    sheet.fact("steps", config.bench_steps);
    sheet.fact("add_seconds", middle->add);
    sheet.fact("sum_and_step_seconds", middle->sum);
    sheet.fact("aggregation_seconds", middle->total());
    sheet.fact("share_of_a_minute", middle->total() / seconds_of_a_round);
    print_result(comm, config.output_format == "json" ? sheet.json() : sheet.text());
    return ExitCode::done;
}

}  // namespace fedit
