// model/field_rules.h: fields of a Hugging Face JSON file that must keep the value which changes
// nothing, because the code does not honour any other.
#pragma once

#include <span>
#include <string_view>

#include "fedit/io/json.h"
#include "model/faults.h"

namespace fedit {

/// A field, and the value (as JSON) that it may have besides null or being absent.
struct NeutralField {
    const char* name;
    const char* value;
};

/// Null, false, or an empty array, object or string: what a switched-off feature looks like.
bool is_off(const Json& value);

/// A fault for each field that is there with another value.
void require_neutral(const Json& object, std::span<const NeutralField> fields, Faults& faults);

}  // namespace fedit
