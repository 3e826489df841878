// experiment/local_clients.h: what each client holds where nothing is averaged (--mode local).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "fedit/experiment/client_store.h"

namespace fedit {

/// A client's finished file of one round is what it starts the next one from; so these files stay
/// as long as a checkpoint that is kept may ask for them.
class LocalClients {
public:
    /// `tag` names the run: a client's way depends on nothing but its identity. `clients`: those
    /// that train, ascending. `start`: what all of them begin with.
    LocalClients(AtomicFile files, RunFolder folder, std::string tag, std::vector<int> clients,
                 std::vector<float> start);

    const std::vector<int>& clients() const { return clients_; }
    /// The files of the round that follows `rounds_done` finished ones.
    ClientStore store(std::int64_t rounds_done) const;
    /// What a client holds after `rounds_done` rounds. Throws InputError if its file is absent,
    /// damaged or unfinished.
    std::vector<float> after(std::int64_t rounds_done, int client) const;

private:
    AtomicFile files_;
    RunFolder folder_;
    std::string tag_;
    std::vector<int> clients_;
    std::vector<float> start_;
};

/// "client_000017": its folder inside adapters/round_000042.
std::string client_name(int client);

}  // namespace fedit
