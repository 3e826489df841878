// model/sampler.cpp: repetition penalty, temperature, top-k and top-p on one row of logits.
#include "fedit/model/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fedit/core/error.h"

namespace fedit {
namespace {

/// The k-th largest of the scores.
float kth_largest(std::span<const float> scores, std::int64_t k) {
    std::vector<float> sorted(scores.begin(), scores.end());
    const auto kth = sorted.begin() + (k - 1);
    std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
    return *kth;
}

void normalise(std::vector<Candidate>& all) {
    double sum = 0;
    for (const Candidate& candidate : all) sum += candidate.probability;
    for (Candidate& candidate : all) candidate.probability /= sum;
}

std::vector<Candidate> softmax(std::span<const float> scores, float lowest) {
    const double largest = *std::max_element(scores.begin(), scores.end());
    std::vector<Candidate> all;
    for (std::size_t i = 0; i < scores.size(); ++i) {
        if (scores[i] < lowest) continue;
        all.push_back({static_cast<std::int32_t>(i), std::exp(double{scores[i]} - largest)});
    }
    normalise(all);
    return all;
}

/// Drops the least probable as long as they sum to at most 1 - top_p. Of equals the higher id goes
/// first. The comparison is in single precision, as in Transformers, so that round values such as
/// 0.25 + 0.25 <= 1 - 0.5 hold.
std::vector<Candidate> nucleus(std::vector<Candidate> all, double top_p) {
    std::vector<std::size_t> order(all.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return all[a].probability != all[b].probability ? all[a].probability < all[b].probability
                                                        : a > b;
    });
    const auto limit = static_cast<float>(1 - top_p);
    double tail = 0;
    for (std::size_t i = 0; i + 1 < order.size(); ++i) {  // the most probable always stays
        tail += all[order[i]].probability;
        if (static_cast<float>(tail) > limit) break;
        all[order[i]].probability = 0;
    }
    std::erase_if(all, [](const Candidate& candidate) { return candidate.probability == 0; });
    normalise(all);
    return all;
}

void require_finite(std::span<const float> logits) {
    const auto bad = std::find_if(logits.begin(), logits.end(),
                                  [](float logit) { return !std::isfinite(logit); });
    if (bad == logits.end()) return;
    throw RunError({.what = fmt::format("the logit of token {} is {}", bad - logits.begin(), *bad),
                    .where = "generation",
                    .remedy = "check the adapter's values, or try --dtype fp32"});
}

}  // namespace

void penalise_repetition(std::span<float> logits, std::span<const std::int32_t> context,
                         double penalty) {
    if (penalty == 1) return;
    const auto factor = static_cast<float>(penalty);
    std::vector<std::int32_t> ids(context.begin(), context.end());
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    for (const std::int32_t id : ids) {
        float& logit = logits[static_cast<std::size_t>(id)];
        logit = logit < 0 ? logit * factor : logit / factor;
    }
}

std::vector<Candidate> candidates(std::span<const float> logits, const Sampling& sampling) {
    std::vector<float> scores(logits.begin(), logits.end());
    const auto temperature = static_cast<float>(sampling.temperature);
    for (float& score : scores) score /= temperature;
    const bool all = sampling.top_k <= 0 || sampling.top_k >= std::ssize(scores);
    const float lowest =
        all ? *std::min_element(scores.begin(), scores.end()) : kth_largest(scores, sampling.top_k);
    std::vector<Candidate> kept = softmax(scores, lowest);
    return sampling.top_p < 1 ? nucleus(std::move(kept), sampling.top_p) : kept;
}

std::int32_t next_token(std::span<float> logits, std::span<const std::int32_t> context,
                        const Sampling& sampling, double uniform) {
    require_finite(logits);
    penalise_repetition(logits, context, sampling.repetition_penalty);
    if (sampling.temperature == 0) {
        return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                         logits.begin());
    }
    const std::vector<Candidate> all = candidates(logits, sampling);
    double reached = 0;
    for (const Candidate& candidate : all) {
        reached += candidate.probability;
        if (uniform < reached) return candidate.id;
    }
    return all.back().id;  // the sum may round to just below 1
}

}  // namespace fedit
