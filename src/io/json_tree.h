// io/json_tree.h: a parsed JSON text: all nodes in one place, each knowing its parent, so that the
// path of a value is made only when a message needs it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace fedit {

struct JsonNode {
    using Array = std::vector<const JsonNode*>;
    struct Object {
        std::vector<const JsonNode*> members;  ///< in the order of the text
        std::vector<const JsonNode*> by_key;   ///< sorted
    };
    const JsonNode* parent = nullptr;
    std::size_t index = 0;  ///< in its array or object
    std::string key;        ///< in its object
    std::variant<std::nullptr_t, bool, std::int64_t, double, std::string, Array, Object> value;
};

struct JsonDocument {
    std::string source;
    std::deque<JsonNode> nodes;  ///< the first is the root; a deque, so that pointers stay
};

/// "config.json, field rope_scaling.factor"; `node` belongs to `document`.
std::string where_of(const JsonDocument& document, const JsonNode& node);

/// Parses with the checks that Json::parse promises; throws InputError.
std::shared_ptr<const JsonDocument> parse_json(std::string_view text, std::string source);

}  // namespace fedit
