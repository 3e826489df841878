// model/name_pattern.cpp: regular expressions of module names, by PCRE2.
#include "model/name_pattern.h"

#include <fmt/core.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "fedit/core/error.h"

namespace fedit {

namespace {

// Names have some 40 characters; an honest expression needs a few hundred steps.
constexpr std::uint32_t most_steps = 100'000;
constexpr std::uint32_t most_memory = 64 * 1024;  // KiB

template <auto release>
struct Release {
    template <class Handle>
    void operator()(Handle* handle) const noexcept {
        release(handle);
    }
};

std::string reason(int code) {
    std::array<PCRE2_UCHAR, 256> text{};
    pcre2_get_error_message(code, text.data(), text.size());
    return reinterpret_cast<const char*>(text.data());
}

PCRE2_SPTR bytes_of(std::string_view text) {
    return reinterpret_cast<PCRE2_SPTR>(text.data());
}

}  // namespace

struct NamePattern::Impl {
    std::string expression, where;
    std::unique_ptr<pcre2_code, Release<pcre2_code_free>> code;
    std::unique_ptr<pcre2_match_data, Release<pcre2_match_data_free>> match;
    std::unique_ptr<pcre2_match_context, Release<pcre2_match_context_free>> limits;
};

NamePattern::NamePattern(const std::string& expression, std::string where)
    : impl_(std::make_unique<Impl>()) {
    impl_->expression = expression;
    impl_->where = std::move(where);
    int error = 0;
    PCRE2_SIZE place = 0;
    impl_->code.reset(pcre2_compile(bytes_of(expression), expression.size(),
                                    PCRE2_ANCHORED | PCRE2_ENDANCHORED, &error, &place, nullptr));
    if (!impl_->code) {
        throw InputError({.what = fmt::format("\"{}\" is no regular expression: {} at character {}",
                                              expression, reason(error), place),
                          .where = impl_->where,
                          .remedy = "correct it, or list the names of the modules"});
    }
    impl_->match.reset(pcre2_match_data_create_from_pattern(impl_->code.get(), nullptr));
    impl_->limits.reset(pcre2_match_context_create(nullptr));
    if (!impl_->match || !impl_->limits) throw std::bad_alloc();
    pcre2_set_match_limit(impl_->limits.get(), most_steps);
    pcre2_set_heap_limit(impl_->limits.get(), most_memory);
}

NamePattern::~NamePattern() = default;
NamePattern::NamePattern(NamePattern&&) noexcept = default;
NamePattern& NamePattern::operator=(NamePattern&&) noexcept = default;

bool NamePattern::matches(std::string_view name) const {
    const int found = pcre2_match(impl_->code.get(), bytes_of(name), name.size(), 0, 0,
                                  impl_->match.get(), impl_->limits.get());
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found >= 0) return true;
    throw InputError({.what = fmt::format("\"{}\" cannot be decided for {}: {}", impl_->expression,
                                          name, reason(found)),
                      .where = impl_->where,
                      .remedy = "simplify the regular expression"});
}

}  // namespace fedit
