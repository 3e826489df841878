// experiment/checkpoint.h: the commit of a round: all that a run needs to go on from there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fedit/experiment/run_log.h"
#include "fedit/io/atomic_file.h"
#include "fedit/model/adapter.h"

namespace fedit {

/// Random streams are counters and need no state; so this is all.
struct Checkpoint {
    std::int64_t rounds_done = 0;  ///< the next round's number, from 0
    Layout layout;
    LoraConfig lora;
    std::vector<float> x;  ///< the global adapter
    RunLog log;            ///< rows up to and including this round

    std::vector<std::byte> encode() const;
    /// Throws InputError if the file is damaged or is not a checkpoint.
    static Checkpoint read(const std::filesystem::path& path);
    /// The same from a file's bytes; `source` names them in errors.
    static Checkpoint decode(std::vector<std::byte> file, const std::string& source);
};

/// What becomes of client files whose round is committed: they go, or a client starts its next
/// round from them (--mode local).
enum class CommittedClients : std::uint8_t { forgotten, kept };

/// The names inside an output folder.
struct RunFolder {
    std::filesystem::path root;
    std::string result = "adapter";  ///< what a round leaves: "adapter", or "model" if that trains
    CommittedClients committed_clients = CommittedClients::forgotten;
    std::filesystem::path log() const { return root / "run.h5"; }
    std::filesystem::path config() const { return root / "config.ini"; }
    std::filesystem::path lock() const { return root / "run.lock"; }
    std::filesystem::path stop() const { return root / "stop"; }
    std::filesystem::path checkpoints() const { return root / "checkpoints"; }
    std::filesystem::path state() const { return root / "state"; }
    /// checkpoints/round_000042.h5: after 42 rounds.
    std::filesystem::path checkpoint(std::int64_t rounds_done) const;
    /// adapters/ or models/, and the newest one's link: adapter or model.
    std::filesystem::path results() const { return root / (result + "s"); }
    std::filesystem::path result_link() const { return root / result; }
    /// adapters/round_000042: the global adapter, or model, after 42 rounds.
    std::filesystem::path result_of(std::int64_t rounds_done) const;
    /// state/round_000042: clients of the round that follows 42 finished ones.
    std::filesystem::path clients(std::int64_t rounds_done) const;
};

/// "round_000042" -> 42; nothing for other names (an extension is ignored).
std::optional<std::int64_t> round_of(const std::filesystem::path& path);

/// Rounds of the entries of a folder that are named like rounds, ascending.
std::vector<std::int64_t> rounds_in(const std::filesystem::path& folder);

/// The newest intact checkpoint, or nothing; damaged ones are listed in `damaged`.
std::optional<std::filesystem::path> newest_checkpoint(const RunFolder& folder,
                                                       std::vector<std::filesystem::path>& damaged);

/// Deletes the client files that no checkpoint of this folder needs when `rounds_done` rounds are
/// committed.
void forget_clients(const RunFolder& folder, std::int64_t rounds_done);

/// Deletes adapters and checkpoints of rounds after `rounds_done`, and client files that are not
/// needed any more; client files of later rounds are told apart by their tag.
void cut_after(const RunFolder& folder, std::int64_t rounds_done);

/// Deletes all but the newest `keep` checkpoints and adapters; keep 0: deletes nothing.
void prune(const RunFolder& folder, std::int64_t keep);

}  // namespace fedit
