// model/sampler.h: the next token from a row of logits, with the processors of Transformers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fedit {

/// How the next token is chosen; names and meaning as in Transformers' GenerationConfig.
struct Sampling {
    double temperature = 0;         ///< 0: greedy, the largest logit; else logits are divided by it
    std::int64_t top_k = 0;         ///< > 0: only the k largest logits, and ties with the k-th
    double top_p = 1;               ///< < 1: only the fewest tokens whose probabilities reach it
    double repetition_penalty = 1;  ///< divides logits of tokens in the context (CTRL, 1909.05858)
};

/// A token that may come next.
struct Candidate {
    std::int32_t id = 0;
    double probability = 0;
};

/// Divides the logits of tokens that `context` holds, once each; negative ones are multiplied.
void penalise_repetition(std::span<float> logits, std::span<const std::int32_t> context,
                         double penalty);

/// The tokens that sampling may choose and their probabilities (sum 1), by ascending id. In order:
/// temperature (> 0), top-k, softmax, top-p; one token always remains.
std::vector<Candidate> candidates(std::span<const float> logits, const Sampling& sampling);

/// The next token after `context`: penalty first, then the largest logit (the lowest id of equals),
/// or the first candidate whose cumulated probability exceeds `uniform`, in [0, 1). Changes
/// `logits`. Throws RunError where they are not finite numbers.
std::int32_t next_token(std::span<float> logits, std::span<const std::int32_t> context,
                        const Sampling& sampling, double uniform);

}  // namespace fedit
