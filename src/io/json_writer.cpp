// io/json_writer.cpp: JSON text through the vendor's ordered object.
#include <nlohmann/json.hpp>

#include "fedit/io/json.h"

namespace fedit {

using Vendor = nlohmann::ordered_json;

struct JsonWriter::Impl {
    Vendor object = Vendor::object();
};

JsonWriter::JsonWriter() : impl_(std::make_unique<Impl>()) {}
JsonWriter::~JsonWriter() = default;
JsonWriter::JsonWriter(JsonWriter&&) noexcept = default;
JsonWriter& JsonWriter::operator=(JsonWriter&&) noexcept = default;

JsonWriter& JsonWriter::set(std::string_view key, std::string_view value) {
    impl_->object[std::string(key)] = value;
    return *this;
}

JsonWriter& JsonWriter::set(std::string_view key, const char* value) {
    return set(key, std::string_view(value));
}

JsonWriter& JsonWriter::set(std::string_view key, double value) {
    impl_->object[std::string(key)] = value;
    return *this;
}

JsonWriter& JsonWriter::set(std::string_view key, std::int64_t value) {
    impl_->object[std::string(key)] = value;
    return *this;
}

JsonWriter& JsonWriter::set(std::string_view key, int value) {
    return set(key, std::int64_t{value});
}

JsonWriter& JsonWriter::set(std::string_view key, bool value) {
    impl_->object[std::string(key)] = value;
    return *this;
}

JsonWriter& JsonWriter::set(std::string_view key, const std::vector<std::string>& values) {
    impl_->object[std::string(key)] = values;
    return *this;
}

JsonWriter& JsonWriter::set(std::string_view key, const std::vector<std::int32_t>& values) {
    impl_->object[std::string(key)] = values;
    return *this;
}

JsonWriter& JsonWriter::set(std::string_view key, const JsonWriter& object) {
    impl_->object[std::string(key)] = object.impl_->object;
    return *this;
}

JsonWriter& JsonWriter::set(std::string_view key, const std::vector<JsonWriter>& objects) {
    Vendor array = Vendor::array();
    for (const JsonWriter& object : objects) array.push_back(object.impl_->object);
    impl_->object[std::string(key)] = std::move(array);
    return *this;
}

JsonWriter& JsonWriter::set(std::string_view key, const Json& value) {
    impl_->object[std::string(key)] = Vendor::parse(value.dump());
    return *this;
}

JsonWriter& JsonWriter::set_null(std::string_view key) {
    impl_->object[std::string(key)] = nullptr;
    return *this;
}

std::string JsonWriter::text(int indent) const {
    return impl_->object.dump(indent, ' ', false, Vendor::error_handler_t::replace);
}

}  // namespace fedit
