// text/regex.h: the regular expressions of tokenizer.json, which are written for Oniguruma, run by
// PCRE2.
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fedit/io/json.h"

namespace fedit {

/// A stretch [begin, end) of a text.
struct Piece {
    std::size_t begin, end;
    bool operator==(const Piece&) const = default;
};

/// The expression as PCRE2 must be given it to mean the same. Throws InputError, naming the
/// construct, for whatever the two read differently or only one of them has.
std::string to_pcre2(const Json& pattern);

/// A compiled expression. Immutable; safe to use from several threads.
class Regex {
public:
    /// Throws InputError, naming file, field and place, for an expression that is not valid or not
    /// supported.
    explicit Regex(const Json& pattern);

    /// One search after another; not to be shared between threads. The Regex must outlive it.
    class Search {
    public:
        explicit Search(const Regex& regex);
        /// Appends all matches in well-formed `text`, from left to right; an empty one that touches
        /// the match before it does not count. Throws InputError if matching takes too long.
        void find_all(std::string_view text, std::vector<Piece>& matches);

    private:
        bool find(std::string_view text, std::size_t start, Piece& match);
        struct Free {
            void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
            void operator()(pcre2_match_context* limits) const { pcre2_match_context_free(limits); }
        };
        const Regex& regex_;
        std::unique_ptr<pcre2_match_data, Free> data_;
        std::unique_ptr<pcre2_match_context, Free> limits_;
    };

private:
    struct Free {
        void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    };
    std::unique_ptr<pcre2_code, Free> code_;
    std::string where_, excerpt_;  // of the pattern, for messages
};

}  // namespace fedit
