// tests/federation/aggregation_error_test.cpp: the error of averaging factors against numpy's
// values and against naive products in double.
#include "fedit/federation/aggregation_error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "fedit/core/error.h"
#include "fedit/io/json.h"
#include "fedit/io/safetensors.h"
#include "tests/federation/random_updates.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

Module lora_module(std::int64_t out, std::int64_t in, std::int64_t r, std::int64_t offset = 0) {
    return {.name = "layer",
            .spans = {{Part::lora_a, offset, r, in}, {Part::lora_b, offset + r * in, out, r}}};
}

/// B A entry by entry, (out x in).
std::vector<double> naive_product(const Module& module, const std::vector<float>& values) {
    const Span &a = module.spans[0], &b = module.spans[1];
    std::vector<double> product(static_cast<std::size_t>(b.rows * a.cols));
    for (std::int64_t o = 0; o < b.rows; ++o)
        for (std::int64_t i = 0; i < a.cols; ++i)
            for (std::int64_t j = 0; j < a.rows; ++j)
                product[o * a.cols + i] +=
                    double{values[a.size() + o * a.rows + j]} * double{values[j * a.cols + i]};
    return product;
}

double squared_norm(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value * value;
    return sum;
}

/// A tensor of doubles, rounded to what a run keeps.
std::vector<float> rounded(const SafetensorsFile& file, const std::string& name) {
    const auto bytes = file.bytes(name);
    std::vector<double> values(bytes.size() / sizeof(double));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return {values.begin(), values.end()};
}

struct Case {
    std::int64_t out, in, r;
    std::vector<double> weights;
    float spread;  ///< of the clients around the global vector
};

class AggregationErrorOf : public testing::TestWithParam<Case> {};

TEST_P(AggregationErrorOf, ClientsEqualsNaiveProductsInDouble) {
    const auto& [out, in, r, weights, spread] = GetParam();
    const Module module = lora_module(out, in, r);
    const auto size = static_cast<std::size_t>(r * (in + out));
    const std::vector<float> centre = test::random_update(0, size);
    double weight_sum = 0;
    for (const double weight : weights) weight_sum += weight;
    std::vector<std::vector<float>> values;
    std::vector<double> mean(size);
    for (std::size_t k = 0; k < weights.size(); ++k) {
        values.push_back(test::random_update(static_cast<std::uint32_t>(k) + 1, size));
        for (std::size_t i = 0; i < size; ++i) {
            values[k][i] = centre[i] + spread * values[k][i];
            mean[i] += weights[k] / weight_sum * double{values[k][i]};
        }
    }
    const std::vector<float> global(mean.begin(), mean.end());
    std::vector<WeightedModule> clients;
    std::vector<double> products(static_cast<std::size_t>(out * in));
    for (std::size_t k = 0; k < weights.size(); ++k) {
        clients.push_back({weights[k], values[k]});
        const std::vector<double> product = naive_product(module, values[k]);
        for (std::size_t i = 0; i < product.size(); ++i)
            products[i] += weights[k] / weight_sum * product[i];
    }
    std::vector<double> gap = naive_product(module, global);
    for (std::size_t i = 0; i < gap.size(); ++i) gap[i] = products[i] - gap[i];

    const AggregationError got = aggregation_error(module, global, clients);

    const double error = std::sqrt(squared_norm(gap)), norm = std::sqrt(squared_norm(products));
    // The naive gap loses what the products have in common; ours does not.
    EXPECT_NEAR(std::sqrt(got.error), error, 1e-10 * error + 1e-14 * norm);
    EXPECT_NEAR(std::sqrt(got.mean_product), norm, 1e-12 * norm);
}

INSTANTIATE_TEST_SUITE_P(Shapes, AggregationErrorOf,
                         testing::Values(Case{1, 1, 1, {1, 1}, 1}, Case{7, 5, 2, {3, 1, 2}, 1},
                                         Case{5, 33, 4, {.25, .5}, 1e-3F},
                                         Case{3, 2, 8, {1, 2, 3, 4, 5, 6, 7}, 1},
                                         Case{16, 16, 4, {5, 5, 1}, 1e-6F}));

TEST(AggregationError, EqualsTheFixturesModuleByModule) {
    const auto fixture = [](const std::string& name) {
        return test::shared_path("fixtures/algorithms/" + name);
    };
    FEDIT_REQUIRE_SHARED(fixture("averaging.json"));
    const Json layout = Json::parse_file(fixture("layout.json"));
    const Json want = Json::parse_file(fixture("averaging.json"))["aggregation_error"];
    const SafetensorsFile sent(fixture("uploads.safetensors"));
    const SafetensorsFile averages(fixture("averaging.safetensors"));
    ASSERT_EQ(want.size(), 5U);
    for (std::size_t round = 0; round < want.size(); ++round) {
        const std::vector<float> x = rounded(averages, "fedavg.round" + std::to_string(round));
        const Json planned = layout["rounds"][round];
        double total = 0;
        for (std::size_t m = 0; m < layout["modules"].size(); ++m) {
            const Json module_json = layout["modules"][m];
            const Json a = module_json["spans"][0], b = module_json["spans"][1];
            const std::string name = module_json["name"].as_string();
            const Module module = lora_module(b["rows"].as_int(), a["cols"].as_int(),
                                              a["rows"].as_int(), a["offset"].as_int());
            const auto begin = static_cast<std::size_t>(a["offset"].as_int());
            const auto size =
                static_cast<std::size_t>(module.spans[0].size() + module.spans[1].size());
            std::vector<std::vector<float>> values;
            std::vector<WeightedModule> clients;
            for (std::size_t i = 0; i < planned.size(); ++i)
                values.push_back(sent.read_floats("round" + std::to_string(round) + ".client" +
                                                  std::to_string(planned[i].as_int())));
            for (std::size_t i = 0; i < planned.size(); ++i) {
                const auto k = static_cast<std::size_t>(planned[i].as_int());
                clients.push_back({layout["records"][k].as_double(),
                                   std::span(std::as_const(values[i])).subspan(begin, size)});
            }
            const double error =
                aggregation_error(module, std::span(x).subspan(begin, size), clients).error;
            total += error;
            const double expected = want[round][name].as_double();
            // The stored x is fp32, so the gap to a lone client is its rounding.
            EXPECT_NEAR(std::sqrt(error), expected, 1e-6 * expected + 1e-8) << name;
        }
        const double expected = want[round]["total"].as_double();
        EXPECT_NEAR(std::sqrt(total), expected, 1e-6 * expected + 1e-8) << "round " << round;
    }
}

TEST(AggregationError, OfOneClientIsZero) {
    const Module module = lora_module(6, 5, 3);
    const std::vector<float> x = test::random_update(1, 33);
    EXPECT_EQ(aggregation_error(module, x, std::vector<WeightedModule>{{0.3, x}}).error, 0);
}

TEST(AggregationError, OfAnythingButFactorsOfOneLengthIsRefused) {
    const std::vector<float> x = test::random_update(1, 33), shorter(32);
    const Module dense{.name = "model.norm.weight", .spans = {{Part::dense, 0, 1, 33}}};
    EXPECT_THROW(aggregation_error(dense, x, {}), ShapeError);
    EXPECT_THROW(aggregation_error(lora_module(6, 5, 3), shorter, {}), ShapeError);
    EXPECT_THROW(
        aggregation_error(lora_module(6, 5, 3), x, std::vector<WeightedModule>{{1, shorter}}),
        ShapeError);
}

}  // namespace
}  // namespace fedit
