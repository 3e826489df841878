// text/regex.cpp: compiles and runs regular expressions with PCRE2.
#include "text/regex.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <new>
#include <optional>

#include "fedit/core/error.h"
#include "text/json_checks.h"
#include "text/utf8.h"

namespace fedit {
namespace {

std::string message_of(int code) {
    std::array<PCRE2_UCHAR, 160> text{};
    pcre2_get_error_message(code, text.data(), text.size());
    return reinterpret_cast<const char*>(text.data());
}

// Backtracking points, and their memory in KiB, before a search gives up: some seconds at most.
constexpr std::uint32_t most_steps = 10'000'000;
constexpr std::uint32_t most_memory = 256 * 1024;

struct FreeContext {
    void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

}  // namespace

Regex::Regex(const Json& pattern) : where_(pattern.where()), excerpt_(pattern.excerpt()) {
    const std::string translated = to_pcre2(pattern);
    const std::unique_ptr<pcre2_compile_context, FreeContext> context(
        pcre2_compile_context_create(nullptr));
    if (!context) throw std::bad_alloc();
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int error = 0;
    PCRE2_SIZE place = 0;
    // Oniguruma's ^ and $ always match at line ends.
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &place,
                              context.get()));
    if (!code_) {
        throw InputError(
            {.what = fmt::format("the regular expression {} is not valid: {}", excerpt_,
                                 message_of(error)),
             .where = where_,
             .remedy = fmt::format("correct it near {:?}",
                                   translated.substr(std::min(place, translated.size()), 20))});
    }
    // Where the system allows no code to be made at run time, PCRE2 interprets the expression.
    (void)pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
}

Regex::Search::Search(const Regex& regex)
    : regex_(regex),
      data_(pcre2_match_data_create(1, nullptr)),
      limits_(pcre2_match_context_create(nullptr)) {
    if (!data_ || !limits_) throw std::bad_alloc();
    pcre2_set_match_limit(limits_.get(), most_steps);
    pcre2_set_heap_limit(limits_.get(), most_memory);
}

bool Regex::Search::find(std::string_view text, std::size_t start, Piece& match) {
    const auto run = [&](std::uint32_t options) {
        return pcre2_match(regex_.code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                           text.size(), start, PCRE2_NO_UTF_CHECK | options, data_.get(),
                           limits_.get());
    };
    int result = run(0);
    // The interpreter keeps its stack on the heap.
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result < 0) {
        throw InputError({.what = fmt::format("the regular expression {} gives up on a text of {} "
                                              "bytes: {}",
                                              regex_.excerpt_, text.size(), message_of(result)),
                          .where = regex_.where_,
                          .remedy = "use an expression that needs less backtracking, or shorter "
                                    "texts"});
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data_.get());
    match = {ends[0], ends[1]};
    return true;
}

void Regex::Search::find_all(std::string_view text, std::vector<Piece>& matches) {
    std::optional<std::size_t> last_end;
    Piece match{};
    for (std::size_t start = 0; start <= text.size() && find(text, start, match);) {
        if (match.begin == match.end && last_end == match.end) {
            start += start < text.size() ? utf8_length(text[start]) : 1;
            continue;
        }
        matches.push_back(match);
        start = match.end;
        last_end = match.end;
    }
}

}  // namespace fedit
