// text/prompt.cpp: prompt templates in Shepherd's JSON form.
#include "fedit/text/prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "fedit/core/error.h"
#include "fedit/io/json.h"
#include "fedit/io/sha256.h"
#include "text/fault_list.h"

namespace fedit {
namespace {

// A template's text, where it stands, and which placeholders it must have.
struct Source {
    std::string text, where;
    std::vector<std::string_view> placeholders;
};

std::string braced(const std::vector<std::string_view>& names) {
    return fmt::format("{{{}}}", fmt::join(names, "} and {"));
}

Fault placeholder_fault(const Source& source, std::string what) {
    return {.what = std::move(what),
            .where = source.where,
            .remedy = "placeholders here: " + braced(source.placeholders) +
                      "; write {{ or }} for a brace"};
}

// Splits at the placeholders, with the braces of Python's str.format, which Shepherd uses.
class Parser {
public:
    Parser(const Source& source, FaultList& faults) : source_(source), faults_(faults) {}

    std::vector<PromptPiece> parse() {
        std::size_t at = 0;
        while (at < source_.text.size()) at = step(at);
        for (const std::string_view name : source_.placeholders) {
            const bool found = std::any_of(
                pieces_.begin(), pieces_.end(),
                [&](const PromptPiece& p) { return p.is_placeholder && p.text == name; });
            if (!found) fault(fmt::format("the placeholder {{{}}} is missing", name));
        }
        return std::move(pieces_);
    }

private:
    std::size_t step(std::size_t at) {
        const std::string_view text = source_.text;
        const char c = text[at];
        if (c != '{' && c != '}') {
            const std::size_t end = std::min(text.find_first_of("{}", at), text.size());
            add_literal(text.substr(at, end - at));
            return end;
        }
        if (at + 1 < text.size() && text[at + 1] == c) {
            add_literal(text.substr(at, 1));
            return at + 2;
        }
        const std::size_t end = text.find_first_of("{}", at + 1);
        if (c == '}' || end == std::string_view::npos || text[end] == '{') {
            fault(fmt::format("the brace \"{}\" at byte {} belongs to no placeholder", c, at));
            return at + 1;
        }
        add_placeholder(text.substr(at + 1, end - at - 1));
        return end + 1;
    }

    void add_literal(std::string_view text) {
        if (pieces_.empty() || pieces_.back().is_placeholder) pieces_.push_back({});
        pieces_.back().text += text;
    }

    void add_placeholder(std::string_view name) {
        const auto& known = source_.placeholders;
        if (std::find(known.begin(), known.end(), name) == known.end()) {
            fault(fmt::format("the placeholder {{{}}} is not supported", name));
            return;
        }
        pieces_.push_back({.text = std::string(name), .is_placeholder = true});
    }

    void fault(std::string what) { faults_.add(placeholder_fault(source_, std::move(what))); }

    const Source& source_;
    FaultList& faults_;
    std::vector<PromptPiece> pieces_;
};

// The text of a field; nothing, and a fault, if there is none.
std::string read_field(const Json& json, const char* field, FaultList& faults) {
    try {
        return json[field].as_string();
    } catch (const InputError& error) {
        faults.add(error);
        return {};
    }
}

std::string hash_of(std::initializer_list<std::string_view> texts) {
    Sha256 hash;
    for (const std::string_view text : texts) hash.add(std::to_string(text.size()) + ":").add(text);
    return to_hex(hash.finish());
}

std::string fill(const std::vector<PromptPiece>& pieces, std::string_view instruction,
                 std::string_view input) {
    std::string result;
    for (const PromptPiece& piece : pieces) {
        if (!piece.is_placeholder) {
            result += piece.text;
        } else {
            result += piece.text == "input" ? input : instruction;
        }
    }
    return result;
}

}  // namespace

PromptTemplate PromptTemplate::from_json(const Json& json) {
    FaultList faults;
    const std::string with_input = read_field(json, "prompt_input", faults);
    const std::string without_input = read_field(json, "prompt_no_input", faults);
    PromptTemplate result;
    result.response_split_ = read_field(json, "response_split", faults);
    faults.throw_if_any(json.source());

    result.with_input_ =
        Parser({with_input, json["prompt_input"].where(), {"instruction", "input"}}, faults)
            .parse();
    result.without_input_ =
        Parser({without_input, json["prompt_no_input"].where(), {"instruction"}}, faults).parse();
    faults.throw_if_any(json.source());
    result.fingerprint_ = hash_of({with_input, without_input, result.response_split_});
    return result;
}

PromptTemplate PromptTemplate::load(const std::filesystem::path& path) {
    return from_json(Json::parse_file(path));
}

PromptTemplate PromptTemplate::built_in() {
    return from_json(Json::parse(
        R"({
        "description": "instruction, optional input, response",
        "prompt_input": "A task follows, and then the text that it is about. Do the task and )"
        R"(answer it completely.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n)"
        R"(### Response:\n",
        "prompt_no_input": "A task follows. Do the task and answer it completely.\n\n)"
        R"(### Instruction:\n{instruction}\n\n### Response:\n",
        "response_split": "### Response:"
    })",
        "built-in prompt template"));
}

std::string PromptTemplate::prompt(std::string_view instruction, std::string_view input) const {
    return fill(input.empty() ? without_input_ : with_input_, instruction, input);
}

}  // namespace fedit
