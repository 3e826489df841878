// io/json.h: JSON values that remember where they came from, so that an error names file and field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fedit {

struct JsonDocument;  // the parsed text; private to io
struct JsonNode;

/// An immutable JSON value and its path from the document's root. Cheap to copy.
/// Every accessor throws InputError with file, field, value and what would be accepted.
class Json {
public:
    /// Parses UTF-8 text. `source` names it in errors (a path, or "records.jsonl, line 7").
    /// Rejects duplicate keys (all are named), trailing text, depth above 64, invalid UTF-8.
    static Json parse(std::string_view text, std::string source);
    static Json parse_file(const std::filesystem::path& path);

    bool is_null() const;
    bool is_bool() const;
    bool is_number() const;
    bool is_integer() const;  ///< written without fraction or exponent, and within 64 bits
    bool is_string() const;
    bool is_array() const;
    bool is_object() const;

    bool as_bool() const;
    double as_double() const;
    std::int64_t as_int(std::int64_t min = INT64_MIN, std::int64_t max = INT64_MAX) const;
    const std::string& as_string() const;

    std::size_t size() const;                     ///< of an array or object
    Json operator[](std::size_t index) const;     ///< element of an array
    Json operator[](std::string_view key) const;  ///< member of an object; must be there
    bool has(std::string_view key) const;         ///< there and not null
    std::vector<std::string> keys() const;        ///< of an object, in the order of the text

    /// The member's value, or `fallback` where it is absent or null; a wrong type is an error.
    double number_or(std::string_view key, double fallback) const;
    std::int64_t int_or(std::string_view key, std::int64_t fallback) const;
    bool bool_or(std::string_view key, bool fallback) const;
    std::string string_or(std::string_view key, std::string fallback) const;

    /// "config.json, field rope_scaling.factor", for messages.
    std::string where() const;
    const std::string& source() const;
    /// The value as compact JSON, cut to 80 characters, for messages.
    std::string excerpt() const;
    std::string dump(int indent = -1) const;

private:
    Json(std::shared_ptr<const JsonDocument> document, const JsonNode& node);
    Json child(const JsonNode& node) const { return {document_, node}; }
    const JsonNode* find(std::string_view key) const;  // the object's member, or null

    std::shared_ptr<const JsonDocument> document_;
    const JsonNode* node_;
};

/// Builds one JSON object in insertion order. Numbers are written so that they read back exactly;
/// NaN and infinities, which JSON lacks, become null; bytes that are not UTF-8 become U+FFFD.
class JsonWriter {
public:
    JsonWriter();
    ~JsonWriter();
    JsonWriter(JsonWriter&&) noexcept;
    JsonWriter& operator=(JsonWriter&&) noexcept;

    JsonWriter& set(std::string_view key, std::string_view value);
    JsonWriter& set(std::string_view key, const char* value);
    JsonWriter& set(std::string_view key, double value);
    JsonWriter& set(std::string_view key, std::int64_t value);
    JsonWriter& set(std::string_view key, int value);
    JsonWriter& set(std::string_view key, bool value);
    JsonWriter& set(std::string_view key, const std::vector<std::string>& values);
    JsonWriter& set(std::string_view key, const std::vector<std::int32_t>& values);
    JsonWriter& set(std::string_view key, const JsonWriter& object);
    JsonWriter& set(std::string_view key, const std::vector<JsonWriter>& objects);
    JsonWriter& set(std::string_view key, const Json& value);
    JsonWriter& set_null(std::string_view key);

    std::string text(int indent = -1) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fedit
