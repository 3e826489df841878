// text/unicode.h: what tokenizers need of the Unicode character database.
#pragma once

#include "text/mapped_text.h"

namespace fedit {

/// Normalization Form C (Unicode annex 15). A composed character stands for the first that it was
/// made of.
void compose(MappedText& text);

/// A letter, mark, decimal digit, connector or joiner: what \w means to added tokens.
bool is_word_character(char32_t character);

}  // namespace fedit
