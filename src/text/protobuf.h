// text/protobuf.h: the fields of a protobuf message, one after another, and nothing believed
// unseen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fedit {

/// One field. Its value is in `number_value` (varint, 64 or 32 bits as they lie) or in `bytes`.
struct ProtobufField {
    enum class Type { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };
    std::uint32_t number = 0;
    Type type{};
    std::uint64_t value = 0;
    std::string_view bytes;
    std::size_t offset = 0;  ///< of the field, in the file

    // Each throws InputError if the field has another type; `name` is what messages call it.
    std::string_view as_bytes(const std::string& file, std::string_view name) const;
    bool as_bool(const std::string& file, std::string_view name) const;
    std::int64_t as_int(const std::string& file, std::string_view name) const;
    float as_float(const std::string& file, std::string_view name) const;
};

/// Reads one message (https://protobuf.dev/programming-guides/encoding). Throws InputError naming
/// file and byte for a varint, length or field that is cut off, a length beyond the end, and field
/// numbers and types that do not exist.
class ProtobufReader {
public:
    /// `bytes` lie at `offset` of `file`.
    ProtobufReader(std::string_view bytes, std::size_t offset, const std::string& file)
        : bytes_(bytes), offset_(offset), file_(file) {}

    /// Nothing at the message's end.
    std::optional<ProtobufField> next();

private:
    std::uint64_t varint();
    std::string_view take(std::uint64_t count);
    std::uint64_t fixed(std::size_t count);
    [[noreturn]] void fail(const std::string& what, std::size_t at) const;

    std::string_view bytes_;
    std::size_t offset_;
    const std::string& file_;
    std::size_t at_ = 0;
};

}  // namespace fedit
