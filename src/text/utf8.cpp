// text/utf8.cpp: strict UTF-8, one character at a time.
#include "text/utf8.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace fedit {
namespace {

bool in_range(unsigned char byte, unsigned char low, unsigned char high) {
    return byte >= low && byte <= high;
}

// Length of the sequence that `lead` begins; 0 if it begins none.
std::size_t sequence_length(unsigned char lead) {
    return lead < 0x80                  ? 1
           : in_range(lead, 0xC2, 0xDF) ? 2
           : in_range(lead, 0xE0, 0xEF) ? 3
           : in_range(lead, 0xF0, 0xF4) ? 4
                                        : 0;
}

// How many of the `available` bytes at `bytes` belong to one sequence: its length if it is whole
// and well-formed, fewer if it breaks off; 0 if no sequence begins there.
std::size_t well_formed_part(const unsigned char* bytes, std::size_t available) {
    const unsigned char lead = bytes[0];
    const std::size_t length = sequence_length(lead);
    if (length <= 1) return length;
    const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    std::size_t part = 1;
    while (part < std::min(length, available) &&
           in_range(bytes[part], part == 1 ? low : 0x80, part == 1 ? high : 0xBF)) {
        ++part;
    }
    return part;
}

const unsigned char* bytes_of(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

std::size_t first_invalid_utf8(std::string_view text) {
    const unsigned char* bytes = bytes_of(text);
    std::size_t at = 0;
    while (at < text.size()) {
        std::uint64_t eight = 0;
        if (at + sizeof eight <= text.size()) {
            std::memcpy(&eight, bytes + at, sizeof eight);
            if ((eight & 0x8080808080808080U) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        const std::size_t part = well_formed_part(bytes + at, text.size() - at);
        if (part == 0 || part < sequence_length(bytes[at])) return at;
        at += part;
    }
    return text.size();
}

std::size_t maximal_subpart(std::string_view text) {
    return std::max<std::size_t>(1, well_formed_part(bytes_of(text), text.size()));
}

bool is_begun_character(std::string_view text) {
    const std::size_t part = well_formed_part(bytes_of(text), text.size());
    return part == text.size() && part < sequence_length(bytes_of(text)[0]);
}

char32_t code_point_at(std::string_view text, std::size_t begin) {
    const auto byte = [&](std::size_t i) {
        return static_cast<char32_t>(static_cast<unsigned char>(text[begin + i]));
    };
    switch (utf8_length(text[begin])) {
        case 1:
            return byte(0);
        case 2:
            return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
        case 3:
            return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
        default:
            return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 |
                   (byte(3) & 0x3F);
    }
}

std::size_t last_character(std::string_view text) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    return begin;
}

bool is_unicode_space(char32_t character) {
    return (character >= 0x09 && character <= 0x0D) || character == 0x20 || character == 0x85 ||
           character == 0xA0 || character == 0x1680 ||
           (character >= 0x2000 && character <= 0x200A) || character == 0x2028 ||
           character == 0x2029 || character == 0x202F || character == 0x205F || character == 0x3000;
}

}  // namespace fedit
