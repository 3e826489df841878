// comm/watchdog.cpp: questions and answers between ranks that wait.
#include "comm/watchdog.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "comm/mpi_check.h"
#include "fedit/core/error.h"

namespace fedit {
namespace {

constexpr std::chrono::seconds time_to_answer{1};

/// "rank 3", "ranks 1, 2, 5"; the first sixteen.
std::string list_ranks(const std::vector<int>& ranks) {
    const std::size_t shown = std::min<std::size_t>(ranks.size(), 16);
    std::string text = ranks.size() == 1 ? "rank " : "ranks ";
    for (std::size_t i = 0; i < shown; ++i) {
        text += fmt::format("{}{}", i == 0 ? "" : ", ", ranks[i]);
    }
    if (shown < ranks.size()) text += fmt::format(" and {} more", ranks.size() - shown);
    return text;
}

}  // namespace

void Watchdog::begin(const RunState& state) {
    ++collective_;
    stage_ = Stage::waiting;
    started_ = Clock::now();
    next_stage_ = started_ + state.hang_limit;
}

void Watchdog::look(const RunState& state) {
    answer_questions();
    forget_sent();
    if (state.hang_limit.count() == 0) return;
    if (stage_ == Stage::asking) {
        for (const Message& answer : receive(Tag::answer)) {
            if (answer.collective == collective_) present_.at(answer.rank) = true;
        }
    }
    if (Clock::now() < next_stage_) return;
    if (stage_ == Stage::waiting) {
        ask();
    } else {
        give_up_unless_complete(state);
    }
}

void Watchdog::answer_questions() {
    for (const Message& question : receive(Tag::question)) {
        questions_.push_back(question);
        // The one who asks will tell the user; of two who ask, the lower rank does.
        if (stage_ == Stage::waiting || question.rank < rank_) {
            next_stage_ = std::max(next_stage_, Clock::now() + 5 * time_to_answer);
        }
    }
    // A question about a later collective waits until this rank has come there.
    for (const Message& question : questions_) {
        if (question.collective == collective_) send(Tag::answer, question.rank);
    }
    std::erase_if(questions_,
                  [&](const Message& question) { return question.collective <= collective_; });
}

void Watchdog::ask() {
    present_.assign(static_cast<std::size_t>(size_), false);
    present_.at(rank_) = true;
    for (int rank = 0; rank < size_; ++rank) {
        if (rank != rank_) send(Tag::question, rank);
    }
    stage_ = Stage::asking;
    next_stage_ = Clock::now() + time_to_answer;
}

void Watchdog::give_up_unless_complete(const RunState& state) {
    std::vector<int> missing;
    for (int rank = 0; rank < size_; ++rank) {
        if (!present_.at(rank)) missing.push_back(rank);
    }
    if (missing.empty()) {  // the last one has just come
        stage_ = Stage::waiting;
        next_stage_ = Clock::now() + state.hang_limit;
        return;
    }
    const std::chrono::duration<double> waited = Clock::now() - started_;
    throw RunError(
        {.what = fmt::format("{} did not come to the end of phase \"{}\"; rank {} waited {:.0f} s",
                             list_ranks(missing), state.phase, rank_, waited.count()),
         .where = fmt::format("collective {} of {} ranks, hang timeout {} s", collective_, size_,
                              state.hang_limit.count()),
         .remedy = "see whether these ranks and their nodes are alive; if they only need longer, "
                   "raise the hang timeout"});
}

std::vector<Watchdog::Message> Watchdog::receive(Tag tag) {
    std::vector<Message> messages;
    for (;;) {
        int arrived = 0;
        MPI_Status status;
        check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, static_cast<int>(tag), comm_, &arrived, &status),
                  "MPI_Iprobe");
        if (arrived == 0) return messages;
        Message message{.rank = status.MPI_SOURCE, .collective = 0};
        check_mpi(MPI_Recv(&message.collective, 1, MPI_UINT64_T, message.rank,
                           static_cast<int>(tag), comm_, MPI_STATUS_IGNORE),
                  "MPI_Recv");
        messages.push_back(message);
    }
}

void Watchdog::send(Tag tag, int to) {
    Sending& sending = sending_.emplace_back(Sending{collective_, MPI_REQUEST_NULL});
    // NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker): forget_sent() completes it
    const int result = MPI_Isend(&sending.collective, 1, MPI_UINT64_T, to, static_cast<int>(tag),
                                 comm_, &sending.request);
    check_mpi(result, "MPI_Isend");
}

void Watchdog::forget_sent() {
    std::erase_if(sending_, [](Sending& sending) {
        int sent = 0;
        check_mpi(MPI_Test(&sending.request, &sent, MPI_STATUS_IGNORE), "MPI_Test");
        return sent != 0;
    });
}

}  // namespace fedit
