// model/field_rules.cpp: compares fields with their neutral values.
#include "model/field_rules.h"

#include <fmt/core.h>

namespace fedit {

namespace {

bool equal(const Json& value, const Json& neutral) {
    if (value.is_number() && neutral.is_number()) return value.as_double() == neutral.as_double();
    return value.dump() == neutral.dump();
}

}  // namespace

bool is_off(const Json& value) {
    if (value.is_null()) return true;
    if (value.is_bool()) return !value.as_bool();
    if (value.is_string()) return value.as_string().empty();
    return (value.is_array() || value.is_object()) && value.size() == 0;
}

void require_neutral(const Json& object, std::span<const NeutralField> fields, Faults& faults) {
    for (const NeutralField& field : fields) {
        if (!object.has(field.name)) continue;
        const Json value = object[field.name];
        const Json neutral = Json::parse(field.value, "neutral value");
        if (equal(value, neutral) || (is_off(neutral) && is_off(value))) continue;
        const std::string accepted =
            neutral.is_null() ? "null or absent" : fmt::format("{} or absent", field.value);
        faults.add({.what = fmt::format("{} = {} is not supported", field.name, value.excerpt()),
                    .where = value.where(),
                    .remedy = fmt::format("supported: {}", accepted)});
    }
}

}  // namespace fedit
