// tests/experiment/identity_test.cpp: a changed identity is told line by line; what only changes
// how a run is carried out is not part of it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "fedit/core/error.h"
#include "fedit/experiment/identity.h"

namespace fedit {
namespace {

Identity identity_of(const Config& config) {
    Identity identity;
    identity.add_options(config);
    return identity;
}

TEST(Identity, EveryDifferenceIsNamedWithBothValues) {
    Config now, before;
    now.learning_rate = 0.001;
    now.lora_r = 8;
    try {
        identity_of(now).require_same(identity_of(before), "RUN");
        FAIL() << "a changed learning rate was accepted";
    } catch (const InputError& error) {
        ASSERT_EQ(error.faults().size(), 2U);
        const std::string text = error.what();
        EXPECT_NE(text.find("learning-rate is 0.001 now, but the run was made with 0.0003"),
                  std::string::npos)
            << text;
        EXPECT_NE(text.find("lora-r is 8 now, but the run was made with 16"), std::string::npos)
            << text;
    }
}

TEST(Identity, HowARunIsCarriedOutMayChange) {
    Config now, before;
    now.output = "elsewhere";
    now.verbosity = "quiet";
    now.keep_last = 9;
    now.checkpoint_every = 4;
    now.max_walltime = 3;
    now.threads = 2;
    now.rounds = 99;
    EXPECT_NO_THROW(identity_of(now).require_same(identity_of(before), "RUN"));
    EXPECT_EQ(identity_of(now).hash(), identity_of(before).hash());
}

TEST(Identity, RoundsCountWhereTheScheduleSpansTheRun) {
    Config now, before;
    now.lr_scope = before.lr_scope = "run";
    now.rounds = before.rounds + 1;
    EXPECT_THROW(identity_of(now).require_same(identity_of(before), "RUN"), InputError);
}

TEST(Identity, ARunOfAnotherArithmeticIsRefused) {
    Identity now;
    now.add_device(DeviceInfo());
    std::string text = now.text();
    const std::string line = fmt::format("arithmetic = {}\n", arithmetic_version);
    ASSERT_NE(text.find(line), std::string::npos) << text;
    EXPECT_NO_THROW(now.require_same(Identity::parse(text), "RUN"));
    text.erase(text.find(line), line.size());  // as builds before the version was counted wrote
    try {
        now.require_same(Identity::parse(text), "RUN");
        FAIL() << "a run of an earlier arithmetic was accepted";
    } catch (const InputError& error) {
        EXPECT_NE(std::string(error.what()).find("arithmetic is"), std::string::npos);
    }
}

TEST(Identity, ReadsBackFromItsText) {
    Identity identity;
    identity.add("base model", "ab = cd");
    identity.add("empty", "");
    EXPECT_EQ(Identity::parse(identity.text()).text(), identity.text());
    EXPECT_NO_THROW(identity.require_same(Identity::parse(identity.text()), "RUN"));
    EXPECT_THROW(identity.require_same(Identity(), "RUN"), InputError);
    EXPECT_THROW(Identity().require_same(identity, "RUN"), InputError);
}

}  // namespace
}  // namespace fedit
