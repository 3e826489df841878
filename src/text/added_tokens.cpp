// text/added_tokens.cpp: finds added and special tokens in a text before anything else sees it.
#include "text/added_tokens.h"

#include <algorithm>

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

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(const std::vector<AddedToken>& tokens,
                                     const std::vector<std::string>& spellings) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        const auto first = static_cast<unsigned char>(spellings[i].front());
        by_first_byte_[first].push_back({spellings[i], tokens[i]});
    }
    for (std::vector<Pattern>& patterns : by_first_byte_) {
        std::stable_sort(patterns.begin(), patterns.end(), [](const Pattern& a, const Pattern& b) {
            return a.text.size() > b.text.size();
        });
    }
}

const AddedTokenMatcher::Pattern* AddedTokenMatcher::longest_at(std::string_view text,
                                                                std::size_t begin) const {
    for (const Pattern& pattern : by_first_byte_[static_cast<unsigned char>(text[begin])]) {
        if (text.substr(begin, pattern.text.size()) == pattern.text) return &pattern;
    }
    return nullptr;
}

std::vector<Section> AddedTokenMatcher::split(std::string_view text) const {
    std::vector<Section> sections;
    std::size_t plain_begin = 0;
    for (std::size_t at = 0; at < text.size();) {
        const Pattern* match = longest_at(text, at);
        if (match == nullptr) {
            ++at;
            continue;
        }
        const std::size_t begin = match->token.lstrip ? space_before(text, plain_begin, at) : at;
        const std::size_t match_end = at + match->text.size();
        const std::size_t end = match->token.rstrip ? space_behind(text, match_end) : match_end;
        if (plain_begin < begin) sections.push_back({plain_begin, begin, Section::plain});
        sections.push_back({begin, end, match->token.id});
        plain_begin = at = end;
    }
    if (plain_begin < text.size()) {
        sections.push_back({plain_begin, text.size(), Section::plain});
    }
    return sections;
}

}  // namespace fedit
