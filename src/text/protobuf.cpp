// text/protobuf.cpp: the fields of a protobuf message, one after another.
#include "text/protobuf.h"

#include <fmt/format.h>

#include <bit>

#include "fedit/core/error.h"

namespace fedit {
namespace {

constexpr int varint_bits = 64;

InputError wrong_type(const ProtobufField& field, const std::string& file, std::string_view name,
                      std::string_view wanted) {
    return InputError({.what = fmt::format("{} has the wire type {}, but is {}", name,
                                           static_cast<int>(field.type), wanted),
                       .where = fmt::format("{}, byte {}", file, field.offset),
                       .remedy = "give a SentencePiece model that is not damaged"});
}

}  // namespace

std::string_view ProtobufField::as_bytes(const std::string& file, std::string_view name) const {
    if (type != Type::bytes) throw wrong_type(*this, file, name, "text or a message");
    return bytes;
}

bool ProtobufField::as_bool(const std::string& file, std::string_view name) const {
    return as_int(file, name) != 0;
}

std::int64_t ProtobufField::as_int(const std::string& file, std::string_view name) const {
    if (type != Type::varint) throw wrong_type(*this, file, name, "an integer");
    return static_cast<std::int64_t>(value);
}

float ProtobufField::as_float(const std::string& file, std::string_view name) const {
    if (type != Type::fixed32) throw wrong_type(*this, file, name, "a 32-bit float");
    return std::bit_cast<float>(static_cast<std::uint32_t>(value));
}

void ProtobufReader::fail(const std::string& what, std::size_t at) const {
    throw InputError({.what = what,
                      .where = fmt::format("{}, byte {}", file_, offset_ + at),
                      .remedy = "give a SentencePiece model that is whole and not damaged"});
}

std::uint64_t ProtobufReader::varint() {
    const std::size_t begin = at_;
    std::uint64_t value = 0;
    for (int shift = 0; shift < varint_bits; shift += 7) {
        if (at_ == bytes_.size()) fail("the file ends inside a number", begin);
        const auto byte = static_cast<unsigned char>(bytes_[at_++]);
        value |= std::uint64_t{byte & 0x7FU} << shift;
        if (byte < 0x80) return value;
    }
    fail("a number has more than ten bytes", begin);
}

std::string_view ProtobufReader::take(std::uint64_t count) {
    const std::size_t left = bytes_.size() - at_;
    if (count > left) {
        fail(fmt::format("a field of {} bytes is cut off: {} are left", count, left), at_);
    }
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
}

std::uint64_t ProtobufReader::fixed(std::size_t count) {
    const std::string_view taken = take(count);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i) {
        value |= std::uint64_t{static_cast<unsigned char>(taken[i])} << (8 * i);
    }
    return value;
}

std::optional<ProtobufField> ProtobufReader::next() {
    if (at_ == bytes_.size()) return std::nullopt;
    const std::size_t begin = at_;
    const std::uint64_t tag = varint();
    ProtobufField field;
    field.offset = offset_ + begin;
    if (tag >> 3 == 0 || tag >> 3 >= std::uint64_t{1} << 29) {
        fail(fmt::format("there is no field with the number {}", tag >> 3), begin);
    }
    field.number = static_cast<std::uint32_t>(tag >> 3);
    switch (tag & 7) {
        case 0:
            field.type = ProtobufField::Type::varint;
            field.value = varint();
            break;
        case 1:
            field.type = ProtobufField::Type::fixed64;
            field.value = fixed(8);
            break;
        case 2:
            field.type = ProtobufField::Type::bytes;
            field.bytes = take(varint());
            break;
        case 5:
            field.type = ProtobufField::Type::fixed32;
            field.value = fixed(4);
            break;
        default:
            fail(fmt::format("field {} has the wire type {}, which is not supported", field.number,
                             tag & 7),
                 begin);
    }
    return field;
}

}  // namespace fedit
