// experiment/setup.cpp: machine, base model, records, adapter, identity and memory, in this order.
#include "experiment/setup.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "experiment/cohort_choice.h"
#include "fedit/comm/device_sum.h"
#include "fedit/core/error.h"
#include "fedit/experiment/round.h"
#include "fedit/federation/aggregate.h"
#include "fedit/federation/plan.h"
#include "fedit/io/sha256.h"
#include "fedit/model/peft.h"

namespace fedit {

std::string utc_now() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

namespace {

/// Names, sizes and scales of all modules.
std::string layout_text(const Layout& layout) {
    std::string text;
    for (const Module& module : layout.modules) {
        text += fmt::format("{} scale {};", module.name, module.scale);
        for (const Span& span : module.spans)
            text += fmt::format(" {} x {};", span.rows, span.cols);
    }
    return text;
}

}  // namespace

Setup::Setup(const Context& context, Config config, std::optional<Checkpoint> stored)
    : context_(context),
      comm_(context.comm),
      config_(std::move(config)),
      stored_(std::move(stored)) {
    take_stored_choices();
    machine_ = choose_machine(config_, comm_);
    config_.device = machine_.backend->info().kind;
    config_.dtype = to_string(machine_.dtype);
    config_.threads = machine_.threads;
    context_.log.detail("loading the base model " + config_.model);
    ProgressLine progress(context_.log.out(), context_.progress);
    model_ = std::make_unique<BaseModel>(comm_, config_.model, machine_, &progress);
    context_.log.detail("reading records from " + config_.data);
    data_ = load_data(comm_, config_, model_->config().vocab_size, context_.log);
    warn_of_long_records(data_.records, model_->config(), context_.log);
    warn_of_long_records(data_.evaluation, model_->config(), context_.log);
    make_state();
    decoder_ = std::make_unique<Decoder>(model_->config(), model_->weights(), layout_,
                                         *machine_.backend, recompute(config_));
    trainer_ = std::make_unique<LocalTrainer>(*decoder_, layout_, *machine_.backend,
                                              local_config(config_));
    describe_clients();
    resolve_cohort();
    describe_identity();
    plan_memory();
    begin_state();
}

void Setup::take_stored_choices() {
    if (!stored_) return;
    Config before;
    apply_ini(before, Command::train, stored_->log.facts.configuration, "the stored configuration");
    if (config_.device == "auto") config_.device = before.device;
    if (config_.dtype == "auto") config_.dtype = before.dtype;
    if (config_.num_clients == 0) config_.num_clients = before.num_clients;
    if (config_.partition == "auto") config_.partition = before.partition;
    if (config_.cohort == "auto") config_.cohort = before.cohort;
}

void Setup::make_state() {
    if (tune(config_) == Tune::lora) return make_adapter();
    comm_.together("read the weights to train", [&] {
        layout_ = make_dense_layout(model_->config(), tune(config_));
        start_ = read_dense(layout_, HfFolder(config_.model), machine_.threads);
    });
}

void Setup::make_adapter() {
    lora_ = lora_config(config_);
    PeftAdapter given;
    comm_.together("read the adapter to start from", [&] {
        if (!config_.init_adapter.empty())
            given = read_peft(config_.init_adapter, model_->config());
    });
    if (!config_.init_adapter.empty()) {
        given.config.dropout = lora_.dropout;
        lora_ = given.config;
        layout_ = given.layout;
        start_ = std::move(given.x);
        config_.lora_r = lora_.r;
        config_.lora_alpha = lora_.alpha;
        config_.use_rslora = lora_.use_rslora;
        config_.lora_target_modules = lora_.target_pattern.empty()
                                          ? fmt::format("{}", fmt::join(lora_.target_modules, ","))
                                          : lora_.target_pattern;
    } else {
        layout_ = make_lora_layout(model_->config(), lora_);
        start_ = initial_adapter(layout_, static_cast<std::uint64_t>(config_.seed));
    }
}

void Setup::describe_clients() {
    const LocalConfig local = local_config(config_);
    const std::int64_t micro = std::min(config_.micro_batch_size, config_.batch_size);
    for (int k = 0; k < data_.num_clients(); ++k) {
        const std::int64_t trainable = data_.trainable[static_cast<std::size_t>(k)];
        if (trainable == 0) continue;
        const EncodedRecords records = data_.client(k);
        passes_.push_back(largest_pass(records, local));
        // Records without a target, if any, count here as if they trained.
        mean_rows_ += static_cast<double>(records.tokens.size()) /
                      static_cast<double>(records.size()) *
                      static_cast<double>(std::min(micro, trainable));
    }
    if (!passes_.empty()) mean_rows_ /= static_cast<double>(passes_.size());
}

void Setup::resolve_cohort() {
    if (config_.cohort != "auto") return;
    int size = 1;
    if (tune(config_) == Tune::lora) {
        const DeviceInfo device = machine_.backend->info();
        const auto memory = static_cast<std::size_t>(device.memory_bytes);
        const auto taken = model_->bytes() + static_cast<std::size_t>(device.overhead_bytes);
        const auto sampled =
            static_cast<std::size_t>(sample_size(config_.client_fraction, data_.num_clients()));
        size = choose_cohort(
            {.sampled = std::min(sampled, passes_.size()),
             .rows = mean_rows_,
             .device = device.kind,
             .memory = memory - std::min(memory, taken),
             .bytes = [&](int n) { return trainer_->peak_bytes(largest_cohort(passes_, n)); }});
    }
    // Nodes may have unequal memory.
    config_.cohort = std::to_string(-comm_.max(-size));
}

void Setup::describe_identity() {
    const DeviceInfo device = machine_.backend->info();
    identity_.add_options(config_);
    identity_.add_device(device);
    identity_.add("base model", model_->fingerprint());
    identity_.add("tokenizer", data_.tokenizer);
    identity_.add("prompt template", data_.prompt_template);
    identity_.add("training records", data_.fingerprint);
    identity_.add(
        "weights to start from",
        to_hex(Sha256().add(layout_text(layout_)).add(std::as_bytes(std::span(start_))).finish()));
    // Root's text tells what differs; the others only compare.
    std::string root_text = identity_.text();
    comm_.broadcast(root_text, 0);
    comm_.together("compare the ranks", [&] {
        identity_.require_same(Identity::parse(root_text),
                               fmt::format("rank {} against rank 0", comm_.rank()));
    });
    if (stored_) {
        comm_.together("compare with the stored run", [&] {
            identity_.require_same(Identity::parse(stored_->log.facts.identity), config_.output);
        });
    }
}

void Setup::plan_memory() {
    memory_.base = model_->bytes();
    const RoundPlan first = plan_round(plan_config(config_), 0, data_.trainable);
    std::size_t size = 0;  // of the largest cohort; every round samples as many clients
    for (const std::vector<std::size_t>& cohort : first.cohorts)
        size = std::max(size, cohort.size());
    const std::vector<PassSize> cohort = largest_cohort(passes_, static_cast<int>(size));
    memory_.cohort = static_cast<int>(cohort.size());
    memory_.training = trainer_->peak_bytes(cohort);
    const PassSize evaluated = largest_evaluation_pass(data_.evaluation, 0, data_.evaluation.size(),
                                                       static_cast<int>(config_.eval_batch_size));
    memory_.training =
        std::max(memory_.training, trainer_->kept_bytes(cohort.size()) +
                                       decoder_->activation_bytes(evaluated, Pass::evaluate) +
                                       static_cast<std::size_t>(layout_.size) * sizeof(float));
    const DeviceInfo info = machine_.backend->info();
    if (info.host_memory) memory_.training += static_cast<std::size_t>(info.overhead_bytes);
    // Ids and labels; the message they come in; on rank 0 the texts they were made of.
    const std::size_t tokens = data_.records.tokens.size() + data_.evaluation.tokens.size();
    memory_.records = 3 * tokens * 2 * sizeof(std::int32_t);
    // The global adapter; of each client of a cohort where it starts, and its upload.
    const auto floats = static_cast<std::size_t>(layout_.size);
    memory_.round = floats * (1 + 4 * cohort.size()) * sizeof(float);
    memory_.sum = OrderFreeSum::device_bytes(floats);
    if (!info.host_memory) memory_.sum += floats * sizeof(float);  // the global adapter there
    if (config_.log_aggregation_error > 0) {
        const auto ranks = static_cast<std::size_t>(comm_.size());
        const std::size_t mine = (first.cohorts.size() + ranks - 1) / ranks * cohort.size();
        memory_.round += mine * floats * sizeof(float);
    }
    const Communicator node = comm_.node();
    memory_.ranks_on_node = node.size();
    memory_.node = static_cast<std::size_t>(node_memory_bytes());
    if (!info.host_memory) {
        memory_.device_name = info.model;
        memory_.device = static_cast<std::size_t>(info.memory_bytes);
        memory_.overhead = static_cast<std::size_t>(info.overhead_bytes);
        memory_.ranks_on_device = static_cast<int>(node.max(node.alike(info.device_id).size()));
        if (comm_.size() > 1 && memory_.ranks_on_device == 1 &&
            sum_choice(config_) == SumChoice::automatic) {
            memory_.overhead += static_cast<std::size_t>(nccl_device_bytes());
        }
    }
    comm_.together("plan memory", [&] { memory_.require_fits(); });
}

void Setup::begin_state() {
    if (stored_) {
        state_ = std::move(*stored_);
        state_.log.facts.configuration = to_ini(config_, Command::train);
        return;
    }
    state_.layout = layout_;
    state_.lora = lora_;
    state_.x = std::move(start_);
    RunFacts& facts = state_.log.facts;
    facts.configuration = to_ini(config_, Command::train);
    facts.identity = identity_.text();
    facts.identity_hash = identity_.hash();
    facts.created = utc_now();
    facts.seed = config_.seed;
    facts.num_clients = data_.num_clients();
    state_.log.partition = data_.table;
}

}  // namespace fedit
