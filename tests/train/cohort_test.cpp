// tests/train/cohort_test.cpp: clients that share the passes over the base get what each would get
// alone, and leave them one by one.
#include <gtest/gtest.h>

#include "fedit/core/error.h"
#include "fedit/model/dense.h"
#include "fedit/train/batch.h"
#include "fedit/train/local_trainer.h"
#include "tests/support/backends.h"
#include "tests/tensor/cpu_products.h"
#include "tests/train/records.h"
#include "tests/train/tiny_training.h"

namespace fedit::test {
namespace {

LocalConfig ragged_config() {
    return {.epochs = 2,
            .batch_size = 5,
            .micro_batch_size = 2,
            .schedule = {.kind = LrScheduler::cosine, .learning_rate = 5e-3, .warmup_steps = 2},
            .weight_decay = 0.01,
            .max_grad_norm = 1,
            .lora_dropout = 0.1,
            .seed = 4};
}

/// Clients of 1 to 24 trainable records: unequal batches, micro-batches and numbers of steps.
class Cohort : public testing::Test {
protected:
    Cohort() {
        int seed = 1;
        for (const int records : {30, 2, 13, 8}) {
            records_.push_back(random_records(records, static_cast<std::uint64_t>(seed++)));
        }
    }

    /// Members for the clients of these numbers.
    std::vector<CohortMember> members(const std::vector<std::size_t>& clients) const {
        std::vector<CohortMember> cohort;
        for (const std::size_t k : clients) {
            CohortMember member;
            member.job.client = static_cast<int>(k);
            member.job.round = 1;
            member.records = &records_[k];
            cohort.push_back(std::move(member));
        }
        return cohort;
    }

    std::vector<EncodedRecords> records_;
};

void expect_same(const TrainOutcome& a, const TrainOutcome& b) {
    EXPECT_EQ(a.end, b.end);
    EXPECT_EQ(a.fault, b.fault);
    EXPECT_EQ(a.state.x, b.state.x);
    EXPECT_EQ(a.state.optimizer.m, b.state.optimizer.m);
    EXPECT_EQ(a.state.optimizer.v, b.state.optimizer.v);
    EXPECT_EQ(a.state.optimizer.step, b.state.optimizer.step);
    EXPECT_EQ(a.state.step, b.state.step);
    EXPECT_EQ(a.state.stats.records, b.state.stats.records);
    EXPECT_EQ(a.state.stats.tokens, b.state.stats.tokens);
    EXPECT_EQ(a.state.stats.labelled, b.state.stats.labelled);
    EXPECT_EQ(a.state.stats.steps, b.state.stats.steps);
    EXPECT_EQ(a.state.stats.loss_first, b.state.stats.loss_first);
    EXPECT_EQ(a.state.stats.loss_last, b.state.stats.loss_last);
    EXPECT_EQ(a.state.stats.loss_sum, b.state.stats.loss_sum);
    EXPECT_EQ(a.state.stats.gradient_norm, b.state.stats.gradient_norm);
}

class CohortOnACpu : public Cohort, public testing::WithParamInterface<CpuProducts> {};

TEST_P(CohortOnACpu, OfOneTwoAndFourHasTheBitsOfEachAlone) {
    const Dtype products = dtype_of(GetParam());
    TinyTraining tiny("one_thread", cpu_backend_with(GetParam(), 1), Recompute::none, products);
    TinyTraining two_threads("two_threads", cpu_backend_with(GetParam(), 2), Recompute::none,
                             products);
    std::vector<TrainOutcome> alone;
    for (std::size_t k = 0; k < records_.size(); ++k) {
        alone.push_back(tiny.train(ragged_config(), members({k})).front());
        ASSERT_EQ(alone.back().end, TrainEnd::finished);
    }
    const auto expect_as_alone = [&](TinyTraining& where, const std::vector<std::size_t>& clients) {
        const auto together = where.train(ragged_config(), members(clients));
        ASSERT_EQ(together.size(), clients.size());
        for (std::size_t i = 0; i < clients.size(); ++i) {
            SCOPED_TRACE(clients[i]);
            expect_same(together[i], alone[clients[i]]);
        }
    };
    expect_as_alone(tiny, {0, 1});
    expect_as_alone(tiny, {3, 2});
    expect_as_alone(tiny, {2, 1, 3, 0});
    expect_as_alone(two_threads, {1, 3});
}

INSTANTIATE_TEST_SUITE_P(Products, CohortOnACpu,
                         testing::Values(CpuProducts::panels, CpuProducts::blocked,
                                         CpuProducts::bf16, CpuProducts::emulated_bf16),
                         [](const auto& test) { return name_of(test.param); });

TEST_F(Cohort, RepeatsItsOwnBits) {
    TinyTraining once("once"), again("again");
    const auto a = once.train(ragged_config(), members({2, 0, 1}));
    const auto b = again.train(ragged_config(), members({2, 0, 1}));
    for (std::size_t i = 0; i < a.size(); ++i) expect_same(a[i], b[i]);
}

TEST_F(Cohort, HasTheCpusBitsWhereTheHostCannotTouchMemory) {
    TinyTraining cpu("cpu");
    for (const Recompute recompute : {Recompute::none, Recompute::layer}) {
        TinyTraining guarded("guarded", make_backend(BackendKind::guarded), recompute);
        const auto got = guarded.train(ragged_config(), members({1, 3, 0}));
        const auto want = cpu.train(ragged_config(), members({1, 3, 0}));
        for (std::size_t i = 0; i < got.size(); ++i) expect_same(got[i], want[i]);
    }
}

TEST_F(Cohort, StepsTogetherAndTellsEachMembersSteps) {
    TinyTraining tiny("steps");
    std::vector<std::size_t> order;
    const auto outcomes = tiny.train(ragged_config(), members({0, 1, 3}), {},
                                     [&](std::size_t member, const TrainStats& stats) {
                                         order.push_back(10 * member + stats.steps);
                                     });
    // 24, 2 and 7 records that train, batches of 5, two epochs: 10, 2 and 4 steps.
    EXPECT_EQ(order,
              (std::vector<std::size_t>{1, 11, 21, 2, 12, 22, 3, 23, 4, 24, 5, 6, 7, 8, 9, 10}));
    EXPECT_EQ(outcomes[1].state.step, 2);
    EXPECT_EQ(outcomes[2].state.stats.records, 7);
}

/// Stops after each step of the largest member, and goes on with those that had not ended.
TEST_F(Cohort, ResumesEveryMemberToTheSameBits) {
    TinyTraining tiny("resume"), elsewhere("resume_elsewhere");
    const std::vector<std::size_t> clients{0, 1, 3};
    const auto undisturbed = tiny.train(ragged_config(), members(clients));
    for (std::int64_t stop_after = 0; stop_after < 10; ++stop_after) {
        SCOPED_TRACE(stop_after);
        const StopToken stop;
        if (stop_after == 0) stop.request(StopReason::signal);
        const auto half = tiny.train(ragged_config(), members(clients), stop,
                                     [&](std::size_t member, const TrainStats& stats) {
                                         if (member == 0 && stats.steps == stop_after)
                                             stop.request(StopReason::signal);
                                     });
        std::vector<CohortMember> left;
        std::vector<std::size_t> places;
        for (std::size_t i = 0; i < clients.size(); ++i) {
            const std::int64_t total = undisturbed[i].state.step;
            EXPECT_EQ(half[i].state.step, std::min(stop_after, total));
            EXPECT_EQ(half[i].end, stop_after < total ? TrainEnd::stopped : TrainEnd::finished);
            if (half[i].end == TrainEnd::finished) {
                expect_same(half[i], undisturbed[i]);
                continue;
            }
            left.push_back(members({clients[i]}).front());
            left.back().resume = &half[i].state;
            places.push_back(i);
        }
        const auto rest = elsewhere.train(ragged_config(), left);
        for (std::size_t k = 0; k < places.size(); ++k) {
            expect_same(rest[k], undisturbed[places[k]]);
        }
    }
}

TEST_F(Cohort, ResumesMembersAtDifferentSteps) {
    TinyTraining tiny("different");
    const auto undisturbed = tiny.train(ragged_config(), members({0, 2}));
    std::vector<TrainOutcome> half;
    for (const auto& [client, steps] : {std::pair<std::size_t, int>{0, 7}, {2, 1}}) {
        const StopToken stop;
        half.push_back(tiny.train(ragged_config(), members({client}), stop,
                                  [&, last = steps](std::size_t, const TrainStats& stats) {
                                      if (stats.steps == last) stop.request(StopReason::signal);
                                  })
                           .front());
    }
    std::vector<CohortMember> cohort = members({0, 2});
    cohort[0].resume = &half[0].state;
    cohort[1].resume = &half[1].state;
    const auto rest = tiny.train(ragged_config(), cohort);
    for (std::size_t i = 0; i < rest.size(); ++i) expect_same(rest[i], undisturbed[i]);
}

TEST_F(Cohort, AMemberThatDivergesIsDroppedAlone) {
    TinyTraining tiny("diverge");
    std::vector<CohortMember> cohort = members({0, 2, 3});
    cohort[1].job.start = initial_adapter(tiny.layout, 1);
    cohort[1].job.start[5] = std::numeric_limits<float>::quiet_NaN();
    const auto outcomes = tiny.train(ragged_config(), cohort);
    EXPECT_EQ(outcomes[1].end, TrainEnd::diverged);
    EXPECT_EQ(outcomes[1].state.step, 0);
    EXPECT_NE(outcomes[1].fault.find("client 2, round 1, step 0"), std::string::npos)
        << outcomes[1].fault;
    expect_same(outcomes[0], tiny.train(ragged_config(), members({0})).front());
    expect_same(outcomes[2], tiny.train(ragged_config(), members({3})).front());
}

TEST_F(Cohort, SharesTheSecondsOfAStepByTokens) {
    TinyTraining tiny("seconds");
    const LocalConfig config{.steps = 20, .batch_size = 32, .micro_batch_size = 32};
    const auto outcomes = tiny.train(config, members({0, 1}));
    const TrainStats &many = outcomes[0].state.stats, &few = outcomes[1].state.stats;
    EXPECT_GT(few.seconds, 0);
    const double by_tokens = static_cast<double>(many.tokens) / static_cast<double>(few.tokens);
    EXPECT_NEAR(many.seconds / few.seconds, by_tokens, 1e-6 * by_tokens);
}

TEST_F(Cohort, OfNoClientIsNothing) {
    TinyTraining tiny("none");
    EXPECT_TRUE(tiny.train(ragged_config(), std::vector<CohortMember>{}).empty());
}

TEST_F(Cohort, IsRefusedWhereTheBaseItselfTrains) {
    LoadedModel model(write_tiny_model(fresh_folder("dense")));
    const Layout layout = make_dense_layout(model.config(), Tune::full);
    Decoder decoder(model.config(), model.weights, layout, *model.backend);
    LocalTrainer trainer(decoder, layout, *model.backend, ragged_config());
    std::vector<CohortMember> cohort = members({0, 1});
    for (CohortMember& member : cohort) member.job.start = read_dense(layout, model.folder);
    EXPECT_THROW(trainer.train(cohort, {}), ShapeError);
    cohort.pop_back();
    EXPECT_EQ(trainer.train(cohort, {}).front().end, TrainEnd::finished);
}

}  // namespace
}  // namespace fedit::test
