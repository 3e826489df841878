// experiment/setup.h: everything a run stands on, loaded and checked before its first round.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "experiment/memory_plan.h"
#include "fedit/experiment/checkpoint.h"
#include "fedit/experiment/experiment.h"
#include "fedit/experiment/federated_data.h"
#include "fedit/experiment/identity.h"
#include "fedit/experiment/session.h"
#include "fedit/train/local_trainer.h"

namespace fedit {

/// The same on every rank, except for what lives on the rank's device.
class Setup {
public:
    /// Collective. `stored`: the checkpoint to go on from, whose choices fill in what `config`
    /// leaves to `auto`. Throws InputError for bad input, and for a run of another identity.
    Setup(const Context& context, Config config, std::optional<Checkpoint> stored);

    const Config& config() const { return config_; }  ///< nothing is `auto` any more
    const FederatedData& data() const { return data_; }
    const BaseModel& model() const { return *model_; }
    const LoraConfig& lora() const { return lora_; }
    Backend& backend() { return *machine_.backend; }
    Decoder& decoder() { return *decoder_; }
    LocalTrainer& trainer() { return *trainer_; }
    const Identity& identity() const { return identity_; }
    const MemoryPlan& memory() const { return memory_; }
    int threads() const { return machine_.threads; }

    /// Where the run stands: the stored checkpoint, or the state before the first round.
    Checkpoint& state() { return state_; }

private:
    void take_stored_choices();
    void make_state();
    void make_adapter();
    void describe_clients();
    void resolve_cohort();
    void describe_identity();
    void plan_memory();
    void begin_state();

    const Context& context_;
    const Communicator& comm_;
    Config config_;
    std::optional<Checkpoint> stored_;
    Machine machine_;
    std::unique_ptr<BaseModel> model_;
    FederatedData data_;
    LoraConfig lora_;
    Layout layout_;
    std::vector<float> start_;
    std::unique_ptr<Decoder> decoder_;
    std::unique_ptr<LocalTrainer> trainer_;
    std::vector<PassSize> passes_;  ///< the largest of each client that can be sampled
    double mean_rows_ = 0;          ///< of such a client's passes
    Identity identity_;
    MemoryPlan memory_;
    Checkpoint state_;
};

/// Time now, ISO 8601, UTC.
std::string utc_now();

}  // namespace fedit
