// text/byte_alphabet.cpp: how byte-level vocabularies spell bytes as characters.
#include "text/byte_alphabet.h"

#include <array>
#include <cstdint>

namespace fedit {
namespace {

constexpr int first_stand_in = 0x100;

constexpr bool spells_itself(int byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

struct Alphabet {
    std::array<std::array<char, 2>, 256> spelling{};
    std::array<std::uint8_t, 256> length{};
    std::array<int, 512> byte_of{};  // by character; -1: none

    constexpr Alphabet() {
        byte_of.fill(-1);
        int stand_in = first_stand_in;
        for (int byte = 0; byte < 256; ++byte) {
            const int character = spells_itself(byte) ? byte : stand_in++;
            byte_of[character] = byte;
            length[byte] = character < 0x80 ? 1 : 2;
            if (character < 0x80) {
                spelling[byte][0] = static_cast<char>(character);
            } else {
                spelling[byte][0] = static_cast<char>(0xC0 | character >> 6);
                spelling[byte][1] = static_cast<char>(0x80 | (character & 0x3F));
            }
        }
    }
};

constexpr Alphabet alphabet;

}  // namespace

std::string_view spell_byte(unsigned char byte) {
    return {alphabet.spelling[byte].data(), alphabet.length[byte]};
}

std::optional<unsigned char> spelled_byte(char32_t character) {
    if (character >= alphabet.byte_of.size() || alphabet.byte_of[character] < 0) {
        return std::nullopt;
    }
    return static_cast<unsigned char>(alphabet.byte_of[character]);
}

}  // namespace fedit
