// experiment/session.h: the machine a rank computes on, and the base model in memory that all ranks
// of a node, or of a device, share.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "fedit/comm/communicator.h"
#include "fedit/core/progress.h"
#include "fedit/experiment/config.h"
#include "fedit/model/weights.h"
#include "fedit/tensor/backend.h"

namespace fedit {

/// Cores that this process may run on (mpirun binds ranks to single cores unless told otherwise).
int usable_cores();

/// Memory of this node, in bytes.
std::int64_t node_memory_bytes();

/// The resolved --device, --dtype and --threads.
struct Machine {
    std::unique_ptr<Backend> backend;
    Dtype dtype = Dtype::fp32;
    int threads = 1;
};

/// Collective over `comm`. `auto` takes CUDA where every rank has a device, and a rank takes the
/// device of its place on its node, modulo their number. Throws InputError if the device or dtype
/// is not to be had, or if this rank may use fewer cores than --threads asks for.
Machine choose_machine(const Config& config, const Communicator& comm);

class SharedBlock;

/// The frozen base. The first rank of those that share it reads and packs it; all see it.
class BaseModel {
public:
    /// Collective over `comm`. Rank 0 checks the folder; all ranks end with the same error. The
    /// machine must outlive the model. `progress` shows how far it is where that takes seconds.
    BaseModel(const Communicator& comm, const std::filesystem::path& folder, Machine& machine,
              ProgressLine* progress = nullptr);
    ~BaseModel();

    const ModelConfig& config() const { return config_; }
    const Weights& weights() const { return weights_; }
    const std::string& fingerprint() const { return fingerprint_; }  ///< SHA-256, hex
    std::size_t bytes() const { return plan_bytes_; }

private:
    ModelConfig config_;
    std::string fingerprint_;
    std::size_t plan_bytes_ = 0;
    std::unique_ptr<SharedBlock> memory_;
    Weights weights_;
};

}  // namespace fedit
