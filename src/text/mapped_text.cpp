// text/mapped_text.cpp: a text that is rewritten and remembers where each of its bytes is from.
#include "text/mapped_text.h"

#include <fmt/format.h>

#include <utility>

#include "fedit/core/error.h"
#include "text/utf8.h"

namespace fedit {
namespace {

InputError too_long(std::string_view pattern) {
    return InputError({.what = fmt::format("replacing {:?} makes a text of more than {} bytes",
                                           pattern, max_mapped_text),
                       .where = "text to tokenise",
                       .remedy = "tokenise shorter texts, or use replacements that are no longer"});
}

}  // namespace

MappedText MappedText::slice(std::string_view whole, std::size_t begin, std::size_t end) {
    MappedText result{std::string(whole.substr(begin, end - begin)), {}};
    result.origin.resize(end - begin);
    for (std::size_t at = begin; at < end;) {
        const std::size_t next = at + utf8_length(whole[at]);
        for (std::size_t i = at; i < next; ++i) {
            result.origin[i - begin] = static_cast<std::uint32_t>(at);
        }
        at = next;
    }
    return result;
}

MappedText MappedText::part(std::size_t begin, std::size_t end) const {
    return {text.substr(begin, end - begin), {origin.begin() + begin, origin.begin() + end}};
}

void MappedText::append(const MappedText& other, std::size_t begin, std::size_t end) {
    text.append(other.text, begin, end - begin);
    origin.insert(origin.end(), other.origin.begin() + begin, other.origin.begin() + end);
}

void MappedText::append(std::string_view content, std::uint32_t from) {
    text.append(content);
    origin.insert(origin.end(), content.size(), from);
}

void MappedText::reserve(std::size_t bytes) {
    text.reserve(bytes);
    origin.reserve(bytes);
}

void MappedText::prepend(std::string_view prefix) {
    if (text.empty()) return;
    origin.insert(origin.begin(), prefix.size(), origin.front());
    text.insert(0, prefix);
}

void MappedText::replace(std::string_view pattern, std::string_view content) {
    std::size_t found = text.find(pattern);
    if (found == std::string::npos) return;
    MappedText result;
    result.reserve(text.size() * 5 / 4);
    const std::size_t last = last_character(pattern);
    std::size_t done = 0;
    while (found != std::string::npos) {
        result.append(*this, done, found);
        result.append(content, origin[found + last]);
        if (result.text.size() > max_mapped_text) throw too_long(pattern);
        done = found + pattern.size();
        found = text.find(pattern, done);
    }
    result.append(*this, done, text.size());
    *this = std::move(result);
}

}  // namespace fedit
