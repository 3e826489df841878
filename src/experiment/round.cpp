// experiment/round.cpp: local training on this rank, then one order-free sum over all ranks.
#include "fedit/experiment/round.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>

#include "experiment/aggregation_log.h"
#include "fedit/core/error.h"

namespace fedit {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Finished clients are written once this much training would be lost to a kill.
constexpr double seconds_at_risk = 2;

std::int64_t peak_resident_bytes() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss * std::int64_t{1024};
}

std::vector<int> clients_of(const RoundPlan& plan, std::span<const std::size_t> cohort) {
    std::vector<int> clients;
    for (const std::size_t i : cohort) clients.push_back(plan.clients[i].client);
    return clients;
}

}  // namespace

StopWatch::StopWatch(StopToken token, double max_minutes, std::filesystem::path stop_file)
    : token_(std::move(token)), max_seconds_(max_minutes * 60), stop_file_(std::move(stop_file)) {}

double StopWatch::seconds() const {
    return seconds_since(start_);
}

void StopWatch::poll() {
    if (max_seconds_ > 0 && seconds() >= max_seconds_) token_.request(StopReason::walltime);
    if (Clock::now() < next_) return;
    next_ = Clock::now() + std::chrono::seconds(1);
    std::error_code absent;
    if (std::filesystem::exists(stop_file_, absent)) token_.request(StopReason::stop_file);
}

SumChoice sum_choice(const Config& config) {
    return config.reduce == "mpi" ? SumChoice::mpi : SumChoice::automatic;
}

void require_same_adapter(const Communicator& comm, std::uint64_t checksum,
                          const std::string& where) {
    if (comm.equal(checksum)) return;
    throw RunError(
        {.what = "the ranks hold different adapters after the server step",
         .where = where,
         .remedy = "a rank's memory or library differs: compare `fedit doctor` on all nodes"});
}

/// What this rank gathers in one round.
struct RoundRunner::Local {
    void save(const ClientStore& store) {
        for (const auto& [client, outcome] : unsaved) store.save(client, outcome);
        unsaved_seconds = 0;
        forget_unsaved();
    }
    /// Their memory goes to the clients that are trained next.
    void forget_unsaved() {
        for (auto& [client, outcome] : unsaved) trainer->recycle(std::move(outcome.state.x));
        unsaved.clear();
    }

    LocalTrainer* trainer;

    std::vector<SummedClient> summed{};  ///< kept in rounds that log the aggregation error
    std::vector<ClientRow> rows{};
    std::vector<std::pair<int, TrainOutcome>> unsaved{};  ///< of ended cohorts, not on disk yet
    double unsaved_seconds = 0;
    std::size_t clients = 0, done = 0;  ///< of this rank
    double tokens_left = 0;             ///< of this rank, after the cohort in training
    bool stopped = false, keep_summed = false;
    double train_seconds = 0, wait_seconds = 0;
};

RoundRunner::RoundRunner(const Context& context, const Config& config, const FederatedData& data,
                         const Layout& layout, LocalTrainer& trainer, Backend& backend,
                         StopWatch& watch, const RunFolder& folder,
                         const LocalClients* local_clients)
    : context_(context),
      config_(config),
      data_(data),
      layout_(layout),
      trainer_(trainer),
      backend_(backend),
      sum_(backend, local_clients == nullptr ? static_cast<std::size_t>(layout.size) : 0),
      rank_sum_(context.comm, backend, sum_choice(config)),
      watch_(watch),
      folder_(folder),
      local_clients_(local_clients),
      local_config_(local_config(config)),
      progress_(context.log.out(),
                context.comm.rank() == 0 ? context.progress : ProgressStyle::none) {
    context_.log.detail("the ranks' updates are summed by " + rank_sum_.way());
}

double RoundRunner::planned_tokens(int client) const {
    const EncodedRecords& all = data_.records;
    double tokens = 0;
    std::int64_t records = 0;
    for (const std::int64_t record :
         data_.table.partition.records[static_cast<std::size_t>(client)]) {
        if (all.targets[static_cast<std::size_t>(record)] == 0) continue;
        tokens += static_cast<double>(all.length(record));
        ++records;
    }
    if (config_.local_steps == 0) return tokens * static_cast<double>(config_.local_epochs);
    const std::int64_t batch =
        std::min<std::int64_t>(config_.batch_size, std::max<std::int64_t>(records, 1));
    return tokens / static_cast<double>(std::max<std::int64_t>(records, 1)) *
           static_cast<double>(batch * config_.local_steps);
}

double RoundRunner::planned_tokens(std::span<const int> clients) const {
    double tokens = 0;
    for (const int client : clients) tokens += planned_tokens(client);
    return tokens;
}

std::vector<std::size_t> RoundRunner::my_cohorts(const RoundPlan& plan,
                                                 const ClientStore& store) const {
    // Root alone looks which clients are on disk already, so that all ranks deal alike.
    std::vector<double> cost(plan.cohorts.size());
    context_.comm.together("place cohorts", [&] {
        if (context_.comm.rank() != 0) return;
        for (std::size_t c = 0; c < cost.size(); ++c) {
            const std::vector<int> clients = clients_of(plan, plan.cohorts[c]);
            const std::vector<TrainOutcome> stored = store.load_cohort(clients);
            for (std::size_t i = 0; i < clients.size(); ++i) {
                const bool begun = !stored.empty();
                if (begun && stored[i].end != TrainEnd::stopped) continue;
                const double seen = begun ? static_cast<double>(stored[i].state.stats.tokens) : 0.0;
                cost[c] += std::max(planned_tokens(clients[i]) - seen, 0.0);
            }
        }
    });
    context_.comm.broadcast(std::as_writable_bytes(std::span(cost)), 0);
    return place(cost, context_.comm.size())[static_cast<std::size_t>(context_.comm.rank())];
}

StepCallback RoundRunner::show_progress(const RoundPlan& plan, const Local& local,
                                        std::span<const CohortMember> members) {
    std::vector<TrainStats> now;
    double tokens_before = 0, planned = 0;
    for (const CohortMember& member : members) {
        now.push_back(member.resume != nullptr ? member.resume->stats : TrainStats{});
        tokens_before += static_cast<double>(now.back().tokens);
        planned += planned_tokens(member.job.client);
    }
    ProgressSample sample{.round = plan.round + 1,
                          .rounds = static_cast<int>(config_.rounds),
                          .clients_done = static_cast<int>(local.done),
                          .clients_here = static_cast<int>(local.clients),
                          .client = members.front().job.client,
                          .cohort = static_cast<int>(members.size())};
    return [this, now, tokens_before, planned, sample, start = Clock::now(), &local](
               std::size_t member, const TrainStats& stats) mutable {
        watch_.poll();
        now[member] = stats;
        const auto size = static_cast<double>(now.size());
        double tokens = 0, loss = 0;
        for (const TrainStats& each : now) {
            tokens += static_cast<double>(each.tokens);
            loss += each.loss_last;
        }
        sample.loss = loss / size;
        sample.tokens_per_second = (tokens - tokens_before) / seconds_since(start);
        const double this_round = std::max(planned - tokens, 0.0) + local.tokens_left;
        const double whole_round = planned / size * static_cast<double>(local.clients);
        sample.seconds_left =
            (this_round + whole_round * (sample.rounds - sample.round)) / sample.tokens_per_second;
        progress_.show(sample);
    };
}

std::vector<TrainOutcome> RoundRunner::train_cohort(
    const RoundPlan& plan, std::span<const int> clients,
    std::span<const std::vector<float>* const> starts, const ClientStore& store,
    const Local& local) {
    std::vector<TrainOutcome> outcomes = store.load_cohort(clients);
    const bool resumes = !outcomes.empty();
    outcomes.resize(clients.size());
    std::vector<std::size_t> places;  // of those that have not ended
    std::vector<EncodedRecords> records;
    for (std::size_t i = 0; i < clients.size(); ++i) {
        if (outcomes[i].end != TrainEnd::stopped) continue;
        places.push_back(i);
        records.push_back(data_.client(clients[i]));
    }
    if (places.empty()) return outcomes;
    std::vector<CohortMember> members;
    for (const std::size_t i : places) {
        members.push_back(
            {.job = {.client = clients[i],
                     .round = plan.round,
                     .start = resumes || start_in_backend_ != nullptr ? std::vector<float>()
                                                                      : *starts[i],
                     .start_in_backend = start_in_backend_,
                     .optimizer = {}},
             .records = &records[members.size()],
             .resume = resumes ? &outcomes[i].state : nullptr});
    }
    std::vector<TrainOutcome> trained =
        trainer_.train(members, watch_.token(), show_progress(plan, local, members));
    for (std::size_t k = 0; k < places.size(); ++k) outcomes[places[k]] = std::move(trained[k]);
    return outcomes;
}

void RoundRunner::contribute(const PlannedClient& who, const std::vector<float>& start,
                             TrainOutcome& outcome, Local& local) {
    const std::vector<float>& x = outcome.state.x;
    std::optional<std::string> reason;
    std::optional<double> norm;
    if (outcome.end == TrainEnd::diverged) {
        reason = outcome.fault;
    } else if (local_clients_ != nullptr) {
        reason = screen(x, start);
    } else {
        if (outcome.x_in_backend != nullptr) {
            norm = sum_.add_near(outcome.x_in_backend, start_in_backend_, who.weight, who.records);
        }
        if (!norm) reason = sum_.add(x, start, who.weight, who.records);
    }
    if (reason) {
        outcome.end = TrainEnd::diverged;
        outcome.fault = *reason;
        outcome.state.x = start;  // where a client that trains alone goes on
        return reject(who, *reason, local);
    }
    const TrainStats& stats = outcome.state.stats;
    ClientRow row{.client = who.client,
                  .rank = context_.comm.rank(),
                  .records = who.records,
                  .tokens = stats.tokens};
    row.labelled_tokens = stats.labelled;
    row.steps = stats.steps;
    row.skipped_batches = stats.skipped_batches;
    row.loss_first = stats.loss_first;
    row.loss_last = stats.loss_last;
    row.loss_mean =
        stats.steps > 0 ? stats.loss_sum / static_cast<double>(stats.steps) : not_computed;
    row.update_norm = norm ? *norm : update_norm(x, start);
    row.seconds = stats.seconds;
    if (local.keep_summed) local.summed.push_back({who.client, who.weight, x});
    local.rows.push_back(row);
}

void RoundRunner::reject(const PlannedClient& who, const std::string& reason, Local& local) {
    ClientRow row;
    row.client = who.client;
    row.rank = context_.comm.rank();
    row.records = who.records;
    row.rejected = 1;
    local.rows.push_back(row);
    context_.log.rank_warning(
        fmt::format("client {} is left out of this round: {}", who.client, reason));
}

void RoundRunner::place_start(const std::vector<float>& x) {
    if (local_clients_ != nullptr) return;  // each client has a start of its own
    if (backend_.info().host_memory) {
        start_in_backend_ = x.data();
        return;
    }
    if (start_.data() == nullptr) start_ = DeviceBuffer(backend_, x.size() * sizeof(float));
    backend_.upload(start_.data(), std::as_bytes(std::span(x)));
    start_in_backend_ = start_.floats();
}

void RoundRunner::save_finished(const RoundPlan& plan, const ClientStore& store, Local& local) {
    try {
        local.save(store);
    } catch (const IoError& error) {
        // The round goes on without this safety net; the clients are in the sum already.
        local.unsaved_seconds = 0;
        context_.log.rank_warning(
            fmt::format("a kill before the end of round {} would cost its finished clients: {}",
                        plan.round + 1, error.what()));
    }
}

void RoundRunner::train_mine(const RoundPlan& plan, const std::vector<float>& x,
                             const ClientStore& store, Local& local) {
    const std::vector<std::size_t> mine = my_cohorts(plan, store);
    for (const std::size_t c : mine) {
        local.clients += plan.cohorts[c].size();
        local.tokens_left += planned_tokens(clients_of(plan, plan.cohorts[c]));
    }
    const auto start = Clock::now();
    context_.comm.together("local training", [&] {
        place_start(x);
        for (const std::size_t c : mine) {
            watch_.poll();
            const std::vector<int> clients = clients_of(plan, plan.cohorts[c]);
            local.tokens_left -= planned_tokens(clients);
            std::vector<std::vector<float>> own;  // in local training
            for (const int client : clients) {
                if (local_clients_ == nullptr) break;
                own.push_back(local_clients_->after(plan.round, client));
            }
            std::vector<const std::vector<float>*> starts(clients.size(), &x);
            for (std::size_t i = 0; i < own.size(); ++i) starts[i] = &own[i];
            std::vector<TrainOutcome> outcomes = train_cohort(plan, clients, starts, store, local);
            local.stopped = std::any_of(outcomes.begin(), outcomes.end(), [](const auto& outcome) {
                return outcome.end == TrainEnd::stopped;
            });
            if (local.stopped) {
                for (std::size_t i = 0; i < clients.size(); ++i)
                    store.save(clients[i], outcomes[i]);
                break;
            }
            for (std::size_t i = 0; i < clients.size(); ++i) {
                contribute(plan.clients[plan.cohorts[c][i]], *starts[i], outcomes[i], local);
                local.unsaved_seconds += outcomes[i].state.stats.seconds;
                local.unsaved.emplace_back(clients[i], std::move(outcomes[i]));
            }
            local.done += clients.size();
            if (local.unsaved_seconds >= seconds_at_risk) save_finished(plan, store, local);
        }
        local.train_seconds = seconds_since(start);
        progress_.clear();
    });
    local.wait_seconds = seconds_since(start) - local.train_seconds;
    local.stopped = context_.comm.max(local.stopped ? 1 : 0) != 0;
    // In local training a client's file is what its next round begins with.
    if (local.stopped || local_clients_ != nullptr) {
        context_.comm.together("save finished clients", [&] { local.save(store); });
    }
}

RoundResult RoundRunner::aggregate(const RoundPlan& plan, std::vector<float>& x, Local& local) {
    const Communicator& comm = context_.comm;
    const auto start = Clock::now();
    comm.phase("aggregate");
    ServerStep step(x, comm.sum(sum_.records()), plan.records);
    rank_sum_.sum(sum_.words(), [&](auto words) { step.take(words); });
    require_same_adapter(comm, step.checksum(), fmt::format("round {}", plan.round + 1));
    RoundResult result = gather_rows(plan, local);
    RoundRow& row = result.row;
    row.update_norm = step.update_norm();
    if (local.keep_summed) {
        const AggregationLoss loss = aggregation_loss(comm, layout_, x, local.summed);
        row.aggregation_error = loss.error;
        row.aggregation_error_relative = loss.relative;
    }
    row.bytes_up = row.bytes_down = row.clients * layout_.size * std::int64_t{sizeof(float)};
    row.seconds_aggregate = seconds_since(start);
    return result;
}

RoundResult RoundRunner::gather_rows(const RoundPlan& plan, const Local& local) const {
    const Communicator& comm = context_.comm;
    RoundResult result;
    RoundRow& row = result.row;
    row.round = plan.round;
    for (const Bytes& part : comm.all_gather(std::as_bytes(std::span(local.rows)))) {
        const std::size_t count = part.size() / sizeof(ClientRow);
        std::vector<ClientRow> rows(count);
        std::copy(part.begin(), part.end(), reinterpret_cast<std::byte*>(rows.data()));
        result.clients.insert(result.clients.end(), rows.begin(), rows.end());
    }
    std::sort(result.clients.begin(), result.clients.end(),
              [](const ClientRow& a, const ClientRow& b) { return a.client < b.client; });
    row.clients = std::ssize(plan.clients);
    row.records = plan.records;
    double loss_sum = 0, weight_sum = 0;
    for (std::size_t i = 0; i < result.clients.size(); ++i) {
        ClientRow& client = result.clients[i];
        client.round = plan.round;
        row.rejected += client.rejected;
        if (client.rejected != 0) continue;
        loss_sum += plan.clients[i].weight * client.loss_mean;
        weight_sum += plan.clients[i].weight;
        row.tokens += client.tokens;
        row.labelled_tokens += client.labelled_tokens;
        row.steps += client.steps;
        row.skipped_batches += client.skipped_batches;
    }
    if (row.rejected == row.clients) {
        throw RunError({.what = "no client learned anything this round",
                        .where = fmt::format("round {}", plan.round + 1),
                        .remedy = "see the clients left out in the log; a lower --learning-rate "
                                  "often helps"});
    }
    row.train_loss = loss_sum / weight_sum;
    row.seconds_train =
        static_cast<double>(comm.max(std::llround(local.train_seconds * 1e6))) * 1e-6;
    row.seconds_wait = local.wait_seconds;
    row.peak_memory_bytes = comm.max(peak_resident_bytes());
    return result;
}

std::optional<RoundResult> RoundRunner::run(const RoundPlan& plan, std::vector<float>& x,
                                            const std::string& tag) {
    const bool averaged = local_clients_ == nullptr;
    const ClientStore store = averaged
                                  ? ClientStore(context_.files, folder_.clients(plan.round), tag)
                                  : local_clients_->store(plan.round);
    sum_.clear();
    Local local{.trainer = &trainer_};
    local.keep_summed = averaged && logs_aggregation_error(config_, plan.round);
    train_mine(plan, x, store, local);
    local.forget_unsaved();
    if (local.stopped) return std::nullopt;
    return averaged ? aggregate(plan, x, local) : gather_rows(plan, local);
}

}  // namespace fedit
