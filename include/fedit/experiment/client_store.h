// experiment/client_store.h: clients of the round in progress on disk: finished ones, so that a
// kill costs only those in training, and half-trained ones, so that a requested stop costs nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fedit/experiment/checkpoint.h"
#include "fedit/io/atomic_file.h"
#include "fedit/train/local_trainer.h"

namespace fedit {

/// One file a client, written by the rank that trains it, read by whichever rank is given it next.
/// The folder goes when the round is committed.
class ClientStore {
public:
    /// `tag` names the state that the round started from; files with another tag are not used.
    ClientStore(AtomicFile files, std::filesystem::path folder, std::string tag)
        : files_(std::move(files)), folder_(std::move(folder)), tag_(std::move(tag)) {}

    void save(int client, const TrainOutcome& outcome) const;
    /// Nothing if there is no file of this client, or it is damaged or of another state.
    std::optional<TrainOutcome> load(int client) const;
    /// What is stored of clients that train together, one outcome each. Empty if one has no file,
    /// or if their files are not of one moment: a kill fell between them. Going on from those
    /// could change bits, so the cohort begins anew.
    std::vector<TrainOutcome> load_cohort(std::span<const int> clients) const;
    std::filesystem::path path(int client) const;

private:
    AtomicFile files_;
    std::filesystem::path folder_;
    std::string tag_;
};

}  // namespace fedit
