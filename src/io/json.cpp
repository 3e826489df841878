// io/json.cpp: typed access to a parsed JSON text, with errors that name file, field and value.
#include "fedit/io/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fedit/core/error.h"
#include "fedit/core/similar.h"
#include "fedit/io/atomic_file.h"
#include "io/json_tree.h"

namespace fedit {
namespace {

using Vendor = nlohmann::ordered_json;

constexpr std::size_t excerpt_length = 80;
constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max();

bool is_plain(std::string_view key) {
    return !key.empty() && std::ranges::all_of(key, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-';
    });
}

std::string extend_path(std::string path, std::string_view key) {
    if (!is_plain(key)) return fmt::format("{}[\"{}\"]", path, key);
    if (!path.empty()) path += '.';
    return path.append(key);
}

std::string path_of(const JsonNode& node) {
    std::vector<const JsonNode*> ancestors;
    for (const JsonNode* at = &node; at->parent != nullptr; at = at->parent)
        ancestors.push_back(at);
    std::string path;
    for (auto it = ancestors.rbegin(); it != ancestors.rend(); ++it) {
        const bool in_array = std::holds_alternative<JsonNode::Array>((*it)->parent->value);
        path = in_array ? fmt::format("{}[{}]", path, (*it)->index)
                        : extend_path(std::move(path), (*it)->key);
    }
    return path;
}

std::string where_of_path(const JsonDocument& document, const std::string& path) {
    return path.empty() ? document.source : document.source + ", field " + path;
}

/// At most `limit` bytes, without cutting through a UTF-8 character.
std::string cut(std::string text, std::size_t limit) {
    if (text.size() <= limit) return text;
    while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;
    return text.substr(0, limit);
}

/// A vendor's copy of at most `budget` nodes, and of strings no longer than `budget`.
Vendor to_vendor(const JsonNode& node, std::int64_t& budget) {
    --budget;
    if (const auto* value = std::get_if<bool>(&node.value)) return *value;
    if (const auto* value = std::get_if<std::int64_t>(&node.value)) return *value;
    if (const auto* value = std::get_if<double>(&node.value)) return *value;
    if (const auto* value = std::get_if<std::string>(&node.value)) {
        return cut(*value, static_cast<std::size_t>(std::max<std::int64_t>(budget, 0)));
    }
    if (const auto* array = std::get_if<JsonNode::Array>(&node.value)) {
        Vendor::array_t copy;
        for (const JsonNode* element : *array) {
            if (budget <= 0) break;
            copy.push_back(to_vendor(*element, budget));
        }
        return copy;
    }
    if (const auto* object = std::get_if<JsonNode::Object>(&node.value)) {
        Vendor::object_t copy;
        for (const JsonNode* member : object->members) {
            if (budget <= 0) break;
            copy.push_back({member->key, to_vendor(*member, budget)});
        }
        return copy;
    }
    return nullptr;
}

std::string_view type_name(const JsonNode& node) {
    constexpr std::array<std::string_view, 7> names{
        "null", "a boolean", "an integer", "a number", "a string", "an array", "an object"};
    return names.at(node.value.index());
}

InputError wrong_type(const Json& json, const JsonNode& node, std::string_view wanted) {
    return InputError(
        {.what = fmt::format("expected {}, found {}: {}", wanted, type_name(node), json.excerpt()),
         .where = json.where(),
         .remedy = fmt::format("give {} there", wanted)});
}

std::string range_text(std::int64_t min, std::int64_t max) {
    if (min == std::numeric_limits<std::int64_t>::min() && max == unlimited) return "an integer";
    if (max == unlimited) return fmt::format("an integer of at least {}", min);
    if (min == std::numeric_limits<std::int64_t>::min()) {
        return fmt::format("an integer of at most {}", max);
    }
    return fmt::format("an integer from {} to {}", min, max);
}

}  // namespace

std::string where_of(const JsonDocument& document, const JsonNode& node) {
    return where_of_path(document, path_of(node));
}

Json::Json(std::shared_ptr<const JsonDocument> document, const JsonNode& node)
    : document_(std::move(document)), node_(&node) {}

Json Json::parse(std::string_view text, std::string source) {
    auto document = parse_json(text, std::move(source));
    const JsonNode& root = document->nodes.front();
    return {std::move(document), root};
}

Json Json::parse_file(const std::filesystem::path& path) {
    return parse(read_text_file(path), path.string());
}

bool Json::is_null() const {
    return std::holds_alternative<std::nullptr_t>(node_->value);
}
bool Json::is_bool() const {
    return std::holds_alternative<bool>(node_->value);
}
bool Json::is_integer() const {
    return std::holds_alternative<std::int64_t>(node_->value);
}
bool Json::is_number() const {
    return is_integer() || std::holds_alternative<double>(node_->value);
}
bool Json::is_string() const {
    return std::holds_alternative<std::string>(node_->value);
}
bool Json::is_array() const {
    return std::holds_alternative<JsonNode::Array>(node_->value);
}
bool Json::is_object() const {
    return std::holds_alternative<JsonNode::Object>(node_->value);
}

bool Json::as_bool() const {
    if (!is_bool()) throw wrong_type(*this, *node_, "true or false");
    return std::get<bool>(node_->value);
}

double Json::as_double() const {
    if (is_integer()) return static_cast<double>(std::get<std::int64_t>(node_->value));
    if (!is_number()) throw wrong_type(*this, *node_, "a number");
    return std::get<double>(node_->value);
}

std::int64_t Json::as_int(std::int64_t min, std::int64_t max) const {
    const std::string wanted = is_integer() ? "" : range_text(min, max);
    if (!is_integer()) throw wrong_type(*this, *node_, wanted);
    const auto value = std::get<std::int64_t>(node_->value);
    if (value < min || value > max) {
        throw InputError({.what = fmt::format("{} is out of range", value),
                          .where = where(),
                          .remedy = "give " + range_text(min, max)});
    }
    return value;
}

const std::string& Json::as_string() const {
    if (!is_string()) throw wrong_type(*this, *node_, "a string");
    return std::get<std::string>(node_->value);
}

std::size_t Json::size() const {
    if (const auto* array = std::get_if<JsonNode::Array>(&node_->value)) return array->size();
    if (const auto* object = std::get_if<JsonNode::Object>(&node_->value)) {
        return object->members.size();
    }
    throw wrong_type(*this, *node_, "an array or an object");
}

Json Json::operator[](std::size_t index) const {
    const auto* array = std::get_if<JsonNode::Array>(&node_->value);
    if (array == nullptr) throw wrong_type(*this, *node_, "an array");
    if (index >= array->size()) {
        throw InputError(
            {.what = fmt::format("element {} is missing: the array has {}", index, array->size()),
             .where = where(),
             .remedy = fmt::format("give at least {} elements", index + 1)});
    }
    return child(*(*array)[index]);
}

const JsonNode* Json::find(std::string_view key) const {
    const auto* object = std::get_if<JsonNode::Object>(&node_->value);
    if (object == nullptr) throw wrong_type(*this, *node_, "an object");
    const auto key_of = [](const JsonNode* node) { return std::string_view(node->key); };
    const auto found = std::ranges::lower_bound(object->by_key, key, {}, key_of);
    return found != object->by_key.end() && (*found)->key == key ? *found : nullptr;
}

Json Json::operator[](std::string_view key) const {
    if (const JsonNode* member = find(key)) return child(*member);
    const std::vector<std::string> near = similar_names(key, keys());
    throw InputError(
        {.what = fmt::format("the field \"{}\" is missing", key),
         .where = where_of_path(*document_, extend_path(path_of(*node_), key)),
         .remedy = near.empty() ? "add it" : "add it; did you mean it by: " + join(near) + "?"});
}

bool Json::has(std::string_view key) const {
    const JsonNode* member = find(key);
    return member != nullptr && !std::holds_alternative<std::nullptr_t>(member->value);
}

std::vector<std::string> Json::keys() const {
    const auto* object = std::get_if<JsonNode::Object>(&node_->value);
    if (object == nullptr) throw wrong_type(*this, *node_, "an object");
    std::vector<std::string> names;
    names.reserve(object->members.size());
    for (const JsonNode* member : object->members) names.push_back(member->key);
    return names;
}

double Json::number_or(std::string_view key, double fallback) const {
    return has(key) ? (*this)[key].as_double() : fallback;
}

std::int64_t Json::int_or(std::string_view key, std::int64_t fallback) const {
    return has(key) ? (*this)[key].as_int() : fallback;
}

bool Json::bool_or(std::string_view key, bool fallback) const {
    return has(key) ? (*this)[key].as_bool() : fallback;
}

std::string Json::string_or(std::string_view key, std::string fallback) const {
    return has(key) ? (*this)[key].as_string() : std::move(fallback);
}

std::string Json::where() const {
    return where_of(*document_, *node_);
}

const std::string& Json::source() const {
    return document_->source;
}

std::string Json::excerpt() const {
    std::int64_t budget = 2 * std::int64_t{excerpt_length};  // more than can be shown
    const std::string text = to_vendor(*node_, budget).dump();
    return text.size() <= excerpt_length ? text : cut(text, excerpt_length - 3) + "...";
}

std::string Json::dump(int indent) const {
    std::int64_t budget = unlimited;
    return to_vendor(*node_, budget).dump(indent);
}

}  // namespace fedit
