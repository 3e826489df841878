// text/byte_alphabet.h: how byte-level vocabularies (GPT-2 and its heirs) spell bytes as
// characters.
#pragma once

#include <optional>
#include <string_view>

namespace fedit {

/// The character, as UTF-8, that spells `byte`: itself where Latin-1 has a visible character there,
/// else one from U+0100 on, in the order of the bytes.
std::string_view spell_byte(unsigned char byte);

/// The byte that `character` spells, if it spells one.
std::optional<unsigned char> spelled_byte(char32_t character);

}  // namespace fedit
