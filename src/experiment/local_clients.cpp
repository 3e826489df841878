// experiment/local_clients.cpp: finds what a client holds in its file of the round before.
#include "fedit/experiment/local_clients.h"

#include <fmt/format.h>

#include <utility>

#include "fedit/core/error.h"

namespace fedit {

std::string client_name(int client) {
    return fmt::format("client_{:06}", client);
}

LocalClients::LocalClients(AtomicFile files, RunFolder folder, std::string tag,
                           std::vector<int> clients, std::vector<float> start)
    : files_(std::move(files)),
      folder_(std::move(folder)),
      tag_(std::move(tag)),
      clients_(std::move(clients)),
      start_(std::move(start)) {}

ClientStore LocalClients::store(std::int64_t rounds_done) const {
    return {files_, folder_.clients(rounds_done), tag_};
}

std::vector<float> LocalClients::after(std::int64_t rounds_done, int client) const {
    if (rounds_done == 0) return start_;
    const ClientStore before = store(rounds_done - 1);
    std::optional<TrainOutcome> outcome = before.load(client);
    if (!outcome || outcome->end == TrainEnd::stopped) {
        throw InputError(
            {.what = fmt::format("what client {} learned in round {} is lost: its file is absent, "
                                 "damaged or of another run",
                                 client, rounds_done),
             .where = before.path(client).string(),
             .remedy = "put the file back, or start anew in another --output"});
    }
    return std::move(outcome->state.x);
}

}  // namespace fedit
