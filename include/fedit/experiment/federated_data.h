// experiment/federated_data.h: the records of all clients and the held-out ones, encoded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fedit/comm/communicator.h"
#include "fedit/core/log.h"
#include "fedit/experiment/config.h"
#include "fedit/experiment/run_log.h"
#include "fedit/model/model_config.h"
#include "fedit/text/dataset.h"

namespace fedit {

/// The same on every rank.
struct FederatedData {
    EncodedRecords records;               ///< of all clients
    EncodedRecords evaluation;            ///< held out; may be empty
    PartitionTable table;                 ///< who holds which records
    std::vector<std::int64_t> trainable;  ///< n_k: records of client k with at least one target
    std::string tokenizer, prompt_template, fingerprint;  ///< SHA-256, hex

    int num_clients() const { return static_cast<int>(trainable.size()); }
    EncodedRecords client(int k) const;
};

/// Reads, encodes and partitions on rank 0, and broadcasts. Collective. What was skipped (records
/// without labels, clients without records) is logged. Resolves --num-clients 0 and --partition
/// auto in `config`.
FederatedData load_data(const Communicator& comm, Config& config, std::int64_t vocab_size,
                        const Log& log);

/// Says which records are longer than the model's max_position_embeddings: the model was not made
/// for their last tokens. Dynamic rotary embeddings are made for such sequences.
void warn_of_long_records(const EncodedRecords& records, const ModelConfig& model, const Log& log);

}  // namespace fedit
