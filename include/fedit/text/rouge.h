// text/rouge.h: ROUGE, how much of a reference text an answer shares (Lin 2004), without stemming.
#pragma once

#include <string_view>

namespace fedit {

/// F-measures in [0, 1], as the package rouge-score computes them.
struct Rouge {
    double rouge1 = 0;     ///< shared words
    double rouge2 = 0;     ///< shared pairs of adjacent words
    double rougeL = 0;     ///< longest common subsequence of the whole texts
    double rougeLsum = 0;  ///< union of common subsequences, line by line
};

/// Words are runs of [a-z0-9] of the lower-cased text; all else separates them.
Rouge rouge(std::string_view reference, std::string_view candidate);

}  // namespace fedit
