// io/json_parser.cpp: builds the tree from the vendor's event parser and refuses what it would let
// pass: duplicate keys and deep nesting.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "fedit/core/error.h"
#include "io/json_tree.h"

namespace fedit {
namespace {

using Vendor = nlohmann::json;

constexpr std::size_t max_depth = 64;
constexpr std::size_t max_faults = 10;

/// The vendor's message without its tag, its position (we give ours) and the text it last read.
std::string reason_of(const std::string& message) {
    std::string reason = message.substr(message.find("] ") + 2);
    if (reason.starts_with("parse error")) reason = reason.substr(reason.find(": ") + 2);
    const std::size_t read = reason.find("; last read: ");
    if (read == std::string::npos) return reason;
    const std::size_t expected = reason.rfind("; expected ");
    const std::string tail =
        expected == std::string::npos || expected < read ? "" : reason.substr(expected);
    return reason.substr(0, read) + tail;
}

std::string place_in_text(std::string_view text, std::size_t position) {
    const std::string_view before = text.substr(0, position == 0 ? 0 : position - 1);
    const auto line = 1 + std::ranges::count(before, '\n');
    const std::size_t newline = before.rfind('\n');
    const std::size_t column =
        newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
    if (text.find('\n') == std::string_view::npos) return fmt::format("column {}", column);
    return fmt::format("line {}, column {}", line, column);
}

/// The vendor takes a zero byte for the end of the text and would not look behind it.
void refuse_zero_byte(std::string_view text, const std::string& source) {
    const std::size_t position = text.find('\0');
    if (position == std::string_view::npos) return;
    throw InputError({.what = "not valid JSON: a zero byte",
                      .where = source + ", " + place_in_text(text, position + 1),
                      .remedy = "remove it (the file may be damaged, or not UTF-8)"});
}

/// Receives the parser's events; a returned false ends the parse.
class TreeBuilder final : public nlohmann::json_sax<Vendor> {
public:
    TreeBuilder(std::string_view text, JsonDocument& document) : text_(text), document_(document) {}

    bool null() override { return add(nullptr); }
    bool boolean(bool value) override { return add(value); }
    bool number_integer(number_integer_t value) override { return add(std::int64_t{value}); }
    bool number_unsigned(number_unsigned_t value) override {
        constexpr auto largest = std::uint64_t{std::numeric_limits<std::int64_t>::max()};
        if (value > largest) return add(static_cast<double>(value));
        return add(static_cast<std::int64_t>(value));
    }
    bool number_float(number_float_t value, const string_t&) override { return add(value); }
    bool string(string_t& value) override { return add(std::move(value)); }
    bool binary(binary_t&) override { return false; }  // not in JSON text
    bool start_object(std::size_t) override { return open(JsonNode::Object{}); }
    bool start_array(std::size_t) override { return open(JsonNode::Array{}); }
    bool key(string_t& value) override {
        key_ = std::move(value);
        return true;
    }
    bool end_array() override {
        open_.pop_back();
        return true;
    }
    bool end_object() override {
        auto& object = std::get<JsonNode::Object>(open_.back()->value);
        object.by_key = object.members;
        std::ranges::sort(object.by_key, {},
                          [](const JsonNode* node) -> const std::string& { return node->key; });
        const auto same_key = [](const JsonNode* a, const JsonNode* b) { return a->key == b->key; };
        auto twin = std::ranges::adjacent_find(object.by_key, same_key);
        while (twin != object.by_key.end() && faults_.size() < max_faults) {
            faults_.push_back({.what = fmt::format("the key \"{}\" appears twice", (*twin)->key),
                               .where = where_of(document_, **twin),
                               .remedy = "keep one of the two"});
            twin = std::adjacent_find(twin + 1, object.by_key.end(), same_key);
        }
        open_.pop_back();
        return true;
    }
    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception& error) override {
        faults_.push_back(
            {.what = "not valid JSON: " + reason_of(error.what()),
             .where = document_.source + ", " + place_in_text(text_, position),
             .remedy = "correct the text there (python3 -m json.tool FILE checks it)"});
        return false;
    }

    std::vector<Fault>& faults() { return faults_; }

private:
    template <class Value>
    bool add(Value value) {
        JsonNode& node = document_.nodes.emplace_back();
        node.value = std::move(value);
        if (open_.empty()) return true;
        JsonNode& parent = *open_.back();
        node.parent = &parent;
        if (auto* object = std::get_if<JsonNode::Object>(&parent.value)) {
            node.key = std::move(key_);
            node.index = object->members.size();
            object->members.push_back(&node);
        } else {
            auto& array = std::get<JsonNode::Array>(parent.value);
            node.index = array.size();
            array.push_back(&node);
        }
        return true;
    }

    template <class Container>
    bool open(Container empty) {
        add(std::move(empty));
        open_.push_back(&document_.nodes.back());
        if (open_.size() <= max_depth) return true;
        faults_.push_back({.what = fmt::format("nested more than {} levels deep", max_depth),
                           .where = document_.source,
                           .remedy = "give JSON with fewer levels of objects and arrays"});
        return false;
    }

    std::string_view text_;
    JsonDocument& document_;
    std::vector<JsonNode*> open_;
    std::string key_;
    std::vector<Fault> faults_;
};

}  // namespace

std::shared_ptr<const JsonDocument> parse_json(std::string_view text, std::string source) {
    auto document = std::make_shared<JsonDocument>();
    document->source = std::move(source);
    refuse_zero_byte(text, document->source);
    TreeBuilder builder(text, *document);
    const bool parsed = Vendor::sax_parse(text.begin(), text.end(), &builder);
    if (!parsed || !builder.faults().empty()) throw InputError(std::move(builder.faults()));
    return document;
}

}  // namespace fedit
