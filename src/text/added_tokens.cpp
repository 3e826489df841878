// text/added_tokens.cpp: finds added and special tokens in a text before anything else sees it.
#include "text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "text/unicode.h"
#include "text/utf8.h"

namespace fedit {
namespace {

// Where the white space that ends text[floor, end) begins.
std::size_t space_before(std::string_view text, std::size_t floor, std::size_t end) {
    while (end > floor) {
        const std::size_t begin = last_character(text.substr(0, end));
        if (begin < floor || !is_unicode_space(code_point_at(text, begin))) break;
        end = begin;
    }
    return end;
}

std::size_t space_behind(std::string_view text, std::size_t begin) {
    while (begin < text.size() && is_unicode_space(code_point_at(text, begin))) {
        begin += utf8_length(text[begin]);
    }
    return begin;
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
    const bool before =
        begin > 0 && is_word_character(code_point_at(text, last_character(text.substr(0, begin))));
    const bool behind = end < text.size() && is_word_character(code_point_at(text, end));
    return !before && !behind;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(const std::vector<AddedToken>& tokens) {
    for (const AddedToken& token : tokens) {
        by_first_byte_[static_cast<unsigned char>(token.pattern.front())].push_back(token);
    }
    for (std::vector<AddedToken>& some : by_first_byte_) {
        std::stable_sort(some.begin(), some.end(), [](const AddedToken& a, const AddedToken& b) {
            return a.pattern.size() > b.pattern.size();
        });
    }
}

const AddedToken* AddedTokenMatcher::longest_at(std::string_view text, std::size_t begin) const {
    for (const AddedToken& token : by_first_byte_[static_cast<unsigned char>(text[begin])]) {
        if (text.substr(begin, token.pattern.size()) == token.pattern) return &token;
    }
    return nullptr;
}

std::vector<Section> AddedTokenMatcher::split(std::string_view text) const {
    std::vector<Section> sections;
    std::size_t plain_begin = 0;
    for (std::size_t at = 0; at < text.size();) {
        const AddedToken* token = longest_at(text, at);
        if (token == nullptr) {
            ++at;
            continue;
        }
        const std::size_t match = std::exchange(at, at + token->pattern.size());
        if (token->single_word && !stands_alone(text, match, at)) continue;
        // A token of spaces that the token before it took (rstrip) counts all the same.
        const std::size_t begin =
            token->lstrip ? std::max(space_before(text, plain_begin, match), plain_begin) : match;
        const std::size_t end = token->rstrip ? space_behind(text, at) : at;
        if (plain_begin < begin) sections.push_back({plain_begin, begin, Section::plain});
        sections.push_back({begin, end, token->id});
        plain_begin = end;
    }
    if (plain_begin < text.size()) {
        sections.push_back({plain_begin, text.size(), Section::plain});
    }
    return sections;
}

}  // namespace fedit
