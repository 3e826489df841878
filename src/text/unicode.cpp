// text/unicode.cpp: what tokenizers need of the Unicode character database, by ICU.
#include "text/unicode.h"

#include <unicode/bytestream.h>
#include <unicode/edits.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <utility>

#include "fedit/core/error.h"
#include "text/utf8.h"

namespace fedit {
namespace {

void require(UErrorCode status) {
    if (U_SUCCESS(status)) return;
    throw RunError({.what = std::string("ICU cannot normalise a text: ") + u_errorName(status),
                    .where = "Normalization Form C",
                    .remedy = "check the installation of ICU and its data"});
}

// Characters below U+0300 (their first byte is below 0xCC) are in the composed form already.
bool is_low(std::string_view text) {
    return std::all_of(text.begin(), text.end(),
                       [](char byte) { return static_cast<unsigned char>(byte) < 0xCC; });
}

// `count` bytes of `out` from `to` were made of the characters of `in` in [from, from + old_count):
// each stands for the one in its place, or the last.
void map_changed(const MappedText& in, std::size_t from, std::size_t old_count, MappedText& out,
                 std::size_t to, std::size_t count) {
    std::size_t source = from;
    for (std::size_t at = to; at < to + count;) {
        const std::size_t length = utf8_length(out.text[at]);
        for (std::size_t i = 0; i < length; ++i) out.origin[at + i] = in.origin[source];
        at += length;
        const std::size_t next = source + utf8_length(in.text[source]);
        if (next < from + old_count) source = next;
    }
}

}  // namespace

void compose(MappedText& text) {
    if (is_low(text.text)) return;
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* form = icu::Normalizer2::getNFCInstance(status);
    require(status);
    const icu::StringPiece source(text.text.data(), static_cast<std::int32_t>(text.text.size()));
    const bool done = form->isNormalizedUTF8(source, status);
    require(status);
    if (done) return;

    MappedText result;
    icu::StringByteSink<std::string> sink(&result.text);
    icu::Edits edits;
    form->normalizeUTF8(0, source, sink, &edits, status);
    require(status);
    result.origin.resize(result.text.size());
    icu::Edits::Iterator edit = edits.getFineIterator();
    while (edit.next(status)) {
        const auto from = static_cast<std::size_t>(edit.sourceIndex());
        const auto to = static_cast<std::size_t>(edit.destinationIndex());
        if (edit.hasChange()) {
            map_changed(text, from, static_cast<std::size_t>(edit.oldLength()), result, to,
                        static_cast<std::size_t>(edit.newLength()));
        } else {
            std::copy_n(text.origin.begin() + from, edit.oldLength(), result.origin.begin() + to);
        }
    }
    require(status);
    text = std::move(result);
}

bool is_word_character(char32_t character) {
    const auto c = static_cast<UChar32>(character);
    return u_hasBinaryProperty(c, UCHAR_ALPHABETIC) || u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL) ||
           (U_GET_GC_MASK(c) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

}  // namespace fedit
