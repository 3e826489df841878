// tests/federation/algorithm_fixtures_test.cpp: FedAvg against values computed with numpy in
// double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>

#include "fedit/federation/aggregate.h"
#include "fedit/federation/plan.h"
#include "fedit/io/json.h"
#include "fedit/io/safetensors.h"
#include "tests/federation/random_updates.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

std::filesystem::path fixture(const std::string& name) {
    return test::shared_path("fixtures/algorithms/" + name);
}

std::vector<double> doubles(const Json& array) {
    std::vector<double> values;
    for (std::size_t i = 0; i < array.size(); ++i) values.push_back(array[i].as_double());
    return values;
}

std::vector<float> floats(const Json& array) {
    const auto wide = doubles(array);
    std::vector<float> values;
    for (const double value : wide) values.push_back(static_cast<float>(value));
    return values;
}

std::vector<std::int64_t> integers(const Json& array) {
    std::vector<std::int64_t> values;
    for (std::size_t i = 0; i < array.size(); ++i) values.push_back(array[i].as_int());
    return values;
}

std::vector<std::uint64_t> hex_words(const Json& array) {
    std::vector<std::uint64_t> values;
    for (std::size_t i = 0; i < array.size(); ++i)
        values.push_back(std::stoull(array[i].as_string(), nullptr, 16));
    return values;
}

std::vector<double> read_doubles(const SafetensorsFile& file, const std::string& name) {
    EXPECT_EQ(file.tensor(name).type, StoredType::f64) << name;
    const auto bytes = file.bytes(name);
    std::vector<double> values(bytes.size() / sizeof(double));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
}

double norm(const std::vector<double>& values) {
    return std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0));
}

/// The mean update, each value rounded to fp32 once: a step from zero.
std::vector<float> mean_update(const OrderFreeSum& sum, std::int64_t planned_records) {
    const std::vector<std::uint64_t> words = sum.host_words();
    std::vector<float> x(words.size());
    ServerStep(x, sum.records(), planned_records).take(words);
    return x;
}

std::vector<float> to_fp32(const std::vector<double>& values) {
    return {values.begin(), values.end()};
}

class FixedPoint : public testing::TestWithParam<const char*> {};

TEST_P(FixedPoint, WordsSumDeltaAndNewVectorAreExact) {
    FEDIT_REQUIRE_SHARED(fixture("fixed_point.json"));
    const Json c = Json::parse_file(fixture("fixed_point.json"))[GetParam()];
    auto x = floats(c["x"]);
    const auto weights = doubles(c["weights"]);
    ASSERT_GT(weights.size(), 0U);
    OrderFreeSum sum(test::any_backend(), x.size());
    for (std::size_t k = 0; k < weights.size(); ++k) {
        const auto client = floats(c["xk"][k]);
        OrderFreeSum alone(test::any_backend(), x.size());
        ASSERT_EQ(alone.add(client, x, weights[k], 1), std::nullopt);
        EXPECT_EQ(alone.host_words(), hex_words(c["words"][k])) << "client " << k;
        ASSERT_EQ(sum.add(client, x, weights[k], 1), std::nullopt);
    }
    EXPECT_EQ(sum.host_words(), hex_words(c["sum"]));
    EXPECT_EQ(mean_update(sum, sum.records()), to_fp32(doubles(c["delta"])));
    ServerStep step(x, sum.records(), sum.records());
    step.take(sum.host_words());
    EXPECT_DOUBLE_EQ(step.update_norm(), norm(doubles(c["delta"])));
    EXPECT_EQ(x, floats(c["x_new"]));
}

INSTANTIATE_TEST_SUITE_P(Cases, FixedPoint,
                         testing::Values("edge_weight_half", "edge_weight_one", "seven_clients",
                                         "all_at_the_limit"),
                         [](const auto& name) { return std::string(name.param); });

TEST(FixedPointSurvivors, AreScaledOnceByPlannedOverSurvivingRecords) {
    FEDIT_REQUIRE_SHARED(fixture("fixed_point.json"));
    const Json c = Json::parse_file(fixture("fixed_point.json"))["seven_clients"];
    auto x = floats(c["x"]);
    const auto weights = doubles(c["weights"]);
    const auto records = integers(c["records"]);
    OrderFreeSum sum(test::any_backend(), x.size());
    for (const std::int64_t k : integers(c["kept"]))
        ASSERT_EQ(sum.add(floats(c["xk"][k]), x, weights[k], records[k]), std::nullopt);
    EXPECT_EQ(sum.host_words(), hex_words(c["sum_survivors"]));
    EXPECT_EQ(sum.records(), c["surviving_records"].as_int());
    const std::int64_t planned = c["planned_records"].as_int();
    EXPECT_EQ(mean_update(sum, planned), to_fp32(doubles(c["delta_survivors"])));
    ServerStep step(x, sum.records(), planned);
    step.take(sum.host_words());
    EXPECT_DOUBLE_EQ(step.update_norm(), norm(doubles(c["delta_survivors"])));
    const auto want = floats(c["x_new_survivors"]);
    ASSERT_EQ(x.size(), want.size());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_FLOAT_EQ(x[i], want[i]) << i;
}

TEST(FixedPointRejected, EveryPairIsRefusedByTheScreen) {
    FEDIT_REQUIRE_SHARED(fixture("fixed_point.json"));
    const Json c = Json::parse_file(fixture("fixed_point.json"))["rejected"];
    const auto x = floats(c["x"]), client = floats(c["xk"]);
    ASSERT_GT(x.size(), 0U);
    for (std::size_t i = 0; i < x.size(); ++i)
        EXPECT_TRUE(screen({&client[i], 1}, {&x[i], 1})) << x[i] << " -> " << client[i];
}

/// The seven clients of the fixtures and what each sent.
struct Uploads {
    Json layout = Json::parse_file(fixture("layout.json"));
    SafetensorsFile sent{fixture("uploads.safetensors")};
    SafetensorsFile expected{fixture("averaging.safetensors")};
    std::vector<std::int64_t> records = integers(layout["records"]);

    /// The global vector after a round that `planned` clients were asked for and `lost` never sent.
    std::vector<float> average(std::size_t round, std::vector<float> x,
                               const std::vector<std::int64_t>& planned,
                               const std::vector<std::int64_t>& lost) const {
        std::int64_t total = 0;
        for (const std::int64_t k : planned) total += records[k];
        OrderFreeSum sum(test::any_backend(), x.size());
        for (const std::int64_t k : planned) {
            if (std::ranges::find(lost, k) != lost.end()) continue;
            const auto client =
                sent.read_floats("round" + std::to_string(round) + ".client" + std::to_string(k));
            const double weight = static_cast<double>(records[k]) / static_cast<double>(total);
            EXPECT_EQ(sum.add(client, x, weight, records[k]), std::nullopt);
        }
        ServerStep(x, sum.records(), total).take(sum.host_words());
        return x;
    }
};

/// The fixtures' README: 1e-7 of max(1, |x|), the rounding of one fp32 value.
void expect_close(const std::vector<float>& got, const std::vector<double>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], want[i], 1e-7 * std::max(1.0, std::abs(want[i]))) << i;
}

TEST(Averaging, FollowsFedAvgThroughFiveRounds) {
    FEDIT_REQUIRE_SHARED(fixture("averaging.safetensors"));
    const Uploads uploads;
    auto x = uploads.sent.read_floats("x0");
    const Json rounds = uploads.layout["rounds"];
    ASSERT_EQ(rounds.size(), 5U);
    for (std::size_t r = 0; r < rounds.size(); ++r) {
        SCOPED_TRACE("round " + std::to_string(r));
        x = uploads.average(r, x, integers(rounds[r]), {});
        expect_close(x, read_doubles(uploads.expected, "fedavg.round" + std::to_string(r)));
    }
}

TEST(Averaging, OfSurvivorsWeighsTheirRecordsAlone) {
    FEDIT_REQUIRE_SHARED(fixture("averaging.safetensors"));
    const Uploads uploads;
    const auto lost = integers(Json::parse_file(fixture("averaging.json"))["lost_in_round0"]);
    ASSERT_FALSE(lost.empty());
    const auto x = uploads.average(0, uploads.sent.read_floats("x0"),
                                   integers(uploads.layout["rounds"][0]), lost);
    expect_close(x, read_doubles(uploads.expected, "fedavg.survivors"));
}

TEST(SampleSize, AgreesWithTheFixtures) {
    FEDIT_REQUIRE_SHARED(fixture("sampling.json"));
    const Json cases = Json::parse_file(fixture("sampling.json"))["sampled_clients"];
    ASSERT_GT(cases.size(), 0U);
    for (std::size_t i = 0; i < cases.size(); ++i)
        EXPECT_EQ(sample_size(cases[i]["fraction"].as_double(),
                              static_cast<int>(cases[i]["clients"].as_int())),
                  cases[i]["sampled"].as_int())
            << cases[i].excerpt();
}

}  // namespace
}  // namespace fedit
