// text/regex_syntax.cpp: Oniguruma's regular expressions in PCRE2's words. What both read alike is
// copied, what can be said is said, and the rest is refused.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "fedit/core/error.h"
#include "text/regex.h"
#include "text/utf8.h"

namespace fedit {
namespace {

constexpr std::array<std::string_view, 37> general_categories{
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk",
    "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Cs", "Co", "Cn"};

// \w of Oniguruma, without the brackets. PCRE2's own leaves out marks and connectors.
constexpr std::string_view word_class = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// Outside of brackets \w also takes Latin-1's superscript digits and fractions.
constexpr std::string_view lone_word_class =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\xb2\xb3\xb9\xbc\xbd\xbe)";

bool is_hex(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) {
        return std::isxdigit(static_cast<unsigned char>(c)) != 0;
    });
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

class Translator {
public:
    explicit Translator(const Json& pattern) : json_(pattern), in_(pattern.as_string()) {}
    std::string run();

private:
    enum class Place { outside, in_class };
    bool ended() const { return at_ == in_.size(); }
    std::string_view rest() const { return std::string_view(in_).substr(at_); }
    void copy(std::size_t bytes) {
        out_.append(in_, at_, bytes);
        at_ += bytes;
    }
    [[noreturn]] void refuse_here(std::string_view construct) const;
    void copy_group();
    void copy_repeat();
    void translate_class();
    void translate_escape(Place place);
    void translate_property(bool negated);
    void translate_hex();

    const Json& json_;
    const std::string& in_;
    std::size_t at_ = 0;
    std::string out_;
};

void Translator::refuse_here(std::string_view construct) const {
    throw InputError(
        {.what = fmt::format("{} at byte {} of the regular expression {} is not supported",
                             construct, at_, json_.excerpt()),
         .where = json_.where(),
         .remedy = "supported: characters, classes, . ^ $ \\A \\z \\Z \\s \\S \\d \\D \\w \\W, "
                   "\\p{general category or script}, \\x{..} \\uXXXX, groups (?: (?i: (?= (?! (?<= "
                   "(?<! (?>, alternatives, and greedy, lazy and possessive repeats"});
}

std::string Translator::run() {
    if (in_.empty()) refuse_here("an empty expression");
    while (!ended()) {
        switch (in_[at_]) {
            case '\\':
                translate_escape(Place::outside);
                break;
            case '[':
                translate_class();
                break;
            case '(':
                copy_group();
                break;
            case '{':
                copy_repeat();
                break;
            default:
                copy(1);
        }
    }
    return out_;
}

void Translator::copy_group() {
    if (rest().starts_with("(?i)")) {
        // Elsewhere Oniguruma takes the alternatives that follow into the group, and PCRE2 not.
        if (at_ != 0) refuse_here("(?i) inside an expression");
        return copy(4);
    }
    for (const std::string_view open : {"(?:", "(?i:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
        if (rest().starts_with(open)) return copy(open.size());
    }
    if (rest().starts_with("(?") || rest().starts_with("(*")) {
        refuse_here(fmt::format("\"{}\"", rest().substr(0, 3)));
    }
    copy(1);
}

// "{2}", "{2,}", "{2,5}"; any other brace is a character.
void Translator::copy_repeat() {
    std::size_t end = at_ + 1;
    while (end < in_.size() && (is_digit(in_[end]) || in_[end] == ',')) ++end;
    const std::string_view inside = std::string_view(in_).substr(at_ + 1, end - at_ - 1);
    if (inside.empty() || end == in_.size() || in_[end] != '}') {
        out_ += "\\{";
        ++at_;
        return;
    }
    if (!is_digit(inside.front()) || std::ranges::count(inside, ',') > 1) {
        refuse_here(fmt::format("\"{{{}}}\"", inside));
    }
    const bool modified = end + 1 < in_.size() && (in_[end + 1] == '+' || in_[end + 1] == '?');
    if (modified) refuse_here(fmt::format("\"{{{}}}{}\"", inside, in_[end + 1]));
    copy(end + 1 - at_);
}

void Translator::translate_class() {
    copy(rest().starts_with("[^") ? 2 : 1);
    if (rest().starts_with("]")) refuse_here("an empty class");
    while (!ended() && in_[at_] != ']') {
        if (in_[at_] == '\\') {
            translate_escape(Place::in_class);
        } else if (in_[at_] == '[') {
            refuse_here("\"[\" inside a class");
        } else if (rest().starts_with("&&")) {
            refuse_here("\"&&\" inside a class");
        } else {
            copy(1);
        }
    }
    if (!ended()) copy(1);
}

void Translator::translate_escape(Place place) {
    if (at_ + 1 == in_.size()) refuse_here("a lone backslash");
    const char kind = in_[at_ + 1];
    const bool in_class = place == Place::in_class;
    const auto say = [&](std::string_view text) {
        out_ += text;
        at_ += 2;
    };
    switch (kind) {
        case 's':
            return say(R"(\p{White_Space})");  // PCRE2's \s has U+180E, which is none any more
        case 'S':
            return say(R"(\P{White_Space})");
        case 'd':
            return say(R"(\p{Nd})");
        case 'D':
            return say(R"(\P{Nd})");
        case 'w':
            return say(in_class ? std::string(word_class) : fmt::format("[{}]", lone_word_class));
        case 'W':
            if (in_class) refuse_here("\\W inside a class");
            return say(fmt::format("[^{}]", lone_word_class));
        case 'v':
            return say(R"(\x0b)");
        case 'p':
        case 'P':
            return translate_property(kind == 'P');
        case 'x':
        case 'u':
            return translate_hex();
        case 'A':
        case 'z':
        case 'Z':
            if (in_class) refuse_here(fmt::format("\\{} inside a class", kind));
            return copy(2);
        case 'r':
        case 'n':
        case 't':
        case 'f':
        case 'a':
        case 'e':
            return copy(2);
        default:
            break;
    }
    const auto byte = static_cast<unsigned char>(kind);
    if (byte < 0x80 && std::isalnum(byte) != 0) refuse_here(fmt::format("\\{}", kind));
    if (byte >= 0x80) ++at_;  // a character that needs no backslash
    copy(byte < 0x80 ? 2 : utf8_length(kind));
}

void Translator::translate_property(bool negated) {
    const std::size_t close = in_.find('}', at_);
    if (in_.compare(at_ + 2, 1, "{") != 0 || close == std::string::npos) {
        refuse_here("\\p without braces");
    }
    std::string_view name = std::string_view(in_).substr(at_ + 3, close - at_ - 3);
    if (name.starts_with('^')) {
        negated = !negated;
        name.remove_prefix(1);
    }
    const bool is_name = !name.empty() && std::ranges::all_of(name, [](char c) {
        return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_';
    });
    if (!is_name) refuse_here(fmt::format("the property {:?}", name));
    // A script alone: PCRE2 would take characters that the script shares with others too.
    const bool is_category =
        std::ranges::find(general_categories, name) != general_categories.end();
    out_ += fmt::format("\\{}{{{}{}}}", negated ? 'P' : 'p', is_category ? "" : "sc:", name);
    at_ = close + 1;
}

void Translator::translate_hex() {
    const bool braces = in_.compare(at_ + 1, 2, "x{") == 0;
    const std::size_t begin = at_ + (braces ? 3 : 2);
    const std::size_t end = braces ? in_.find('}', begin) : begin + (in_[at_ + 1] == 'x' ? 2 : 4);
    const std::size_t most = braces ? 6 : 4;
    if (end == std::string::npos || end > in_.size() || end - begin > most ||
        !is_hex(std::string_view(in_).substr(begin, end - begin))) {
        refuse_here("a hexadecimal escape without its digits");
    }
    const std::string digits = in_.substr(begin, end - begin);
    // Two digits above 7F are a byte to Oniguruma and a character to PCRE2.
    if (digits.size() == 2 && !braces && digits[0] > '7') {
        refuse_here(fmt::format("\\x{}", digits));
    }
    out_ += fmt::format("\\x{{{}}}", digits);
    at_ = end + (braces ? 1 : 0);
}

}  // namespace

std::string to_pcre2(const Json& pattern) {
    return Translator(pattern).run();
}

}  // namespace fedit
