// text/rouge.cpp: ROUGE-1, -2, -L and -Lsum.
#include "fedit/text/rouge.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace fedit {
namespace {

using Words = std::vector<std::string>;

/// The lower-case letter or digit that `text` begins with and how many bytes spell it; 0 for a
/// separator. Two characters beyond ASCII have an ASCII letter as lower case: U+212A is a k, and
/// U+0130 an i with a combining dot, which separates.
std::pair<char, std::size_t> word_letter(std::string_view text) {
    const char c = text.front();
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) return {c, 1};
    if (c >= 'A' && c <= 'Z') return {static_cast<char>(c - 'A' + 'a'), 1};
    if (text.starts_with("\u212A")) return {'k', 3};
    if (text.starts_with("\u0130")) return {'i', 2};
    return {0, 1};
}

Words words_of(std::string_view text) {
    Words words;
    bool inside = false;
    while (!text.empty()) {
        const auto [letter, bytes] = word_letter(text);
        if (letter != 0) {
            if (!inside) words.emplace_back();
            words.back() += letter;
        }
        inside = letter != 0 && !text.starts_with("\u0130");
        text.remove_prefix(bytes);
    }
    return words;
}

double f_measure(std::int64_t shared, std::size_t reference, std::size_t candidate) {
    if (shared == 0) return 0;
    const double recall = static_cast<double>(shared) / static_cast<double>(reference);
    const double precision = static_cast<double>(shared) / static_cast<double>(candidate);
    return 2 * precision * recall / (precision + recall);
}

std::map<std::string, std::int64_t> count_ngrams(const Words& words, std::size_t n) {
    std::map<std::string, std::int64_t> counts;
    for (std::size_t i = 0; i + n <= words.size(); ++i) {
        std::string ngram = words[i];
        for (std::size_t j = 1; j < n; ++j) ngram += ' ' + words[i + j];
        ++counts[ngram];
    }
    return counts;
}

double rouge_n(const Words& reference, const Words& candidate, std::size_t n) {
    const auto wanted = count_ngrams(reference, n), given = count_ngrams(candidate, n);
    std::int64_t shared = 0;
    for (const auto& [ngram, count] : wanted) {
        const auto found = given.find(ngram);
        if (found != given.end()) shared += std::min(count, found->second);
    }
    const auto ngrams = [n](const Words& words) {
        return words.size() + 1 - std::min(n, words.size() + 1);
    };
    return f_measure(shared, ngrams(reference), ngrams(candidate));
}

/// Lengths of the longest common subsequences of all prefixes, (reference + 1) x (candidate + 1).
class LcsTable {
public:
    LcsTable(const Words& reference, const Words& candidate)
        : reference_(reference),
          candidate_(candidate),
          cols_(candidate.size() + 1),
          lengths_((reference.size() + 1) * cols_, 0) {
        for (std::size_t i = 1; i <= reference.size(); ++i) {
            for (std::size_t j = 1; j <= candidate.size(); ++j) {
                at(i, j) = reference[i - 1] == candidate[j - 1]
                               ? at(i - 1, j - 1) + 1
                               : std::max(at(i - 1, j), at(i, j - 1));
            }
        }
    }
    std::int64_t length() { return at(reference_.size(), candidate_.size()); }

    /// Marks the reference's words of one longest common subsequence, rouge-score's choice of it.
    void mark(std::vector<bool>& in_common) {
        std::size_t i = reference_.size(), j = candidate_.size();
        while (i > 0 && j > 0) {
            if (reference_[i - 1] == candidate_[j - 1]) {
                in_common[--i] = true;
                --j;
            } else if (at(i, j - 1) > at(i - 1, j)) {
                --j;
            } else {
                --i;
            }
        }
    }

private:
    std::int32_t& at(std::size_t i, std::size_t j) { return lengths_[i * cols_ + j]; }

    const Words& reference_;
    const Words& candidate_;
    std::size_t cols_;
    std::vector<std::int32_t> lengths_;
};

std::vector<Words> lines_of(std::string_view text) {
    std::vector<Words> lines;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        if (end > 0) lines.push_back(words_of(text.substr(0, end)));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return lines;
}

std::map<std::string, std::int64_t> count_words(const std::vector<Words>& lines,
                                                std::size_t& total) {
    std::map<std::string, std::int64_t> counts;
    total = 0;
    for (const Words& line : lines) {
        for (const std::string& word : line) ++counts[word], ++total;
    }
    return counts;
}

double rouge_lsum(std::string_view reference, std::string_view candidate) {
    const std::vector<Words> wanted = lines_of(reference), given = lines_of(candidate);
    std::size_t wanted_words = 0, given_words = 0;
    auto wanted_left = count_words(wanted, wanted_words);
    auto given_left = count_words(given, given_words);
    std::int64_t shared = 0;
    for (const Words& line : wanted) {
        std::vector<bool> in_common(line.size(), false);
        for (const Words& other : given) LcsTable(line, other).mark(in_common);
        for (std::size_t i = 0; i < line.size(); ++i) {
            // A word counts at most as often as either text has it.
            if (!in_common[i] || wanted_left[line[i]] == 0 || given_left[line[i]] == 0) continue;
            ++shared, --wanted_left[line[i]], --given_left[line[i]];
        }
    }
    return f_measure(shared, wanted_words, given_words);
}

}  // namespace

Rouge rouge(std::string_view reference, std::string_view candidate) {
    const Words wanted = words_of(reference), given = words_of(candidate);
    return {.rouge1 = rouge_n(wanted, given, 1),
            .rouge2 = rouge_n(wanted, given, 2),
            .rougeL = f_measure(LcsTable(wanted, given).length(), wanted.size(), given.size()),
            .rougeLsum = rouge_lsum(reference, candidate)};
}

}  // namespace fedit
