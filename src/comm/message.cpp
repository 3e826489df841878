// comm/message.cpp: bounds of messages.
#include "fedit/comm/message.h"

#include <fmt/format.h>

#include <cstring>

#include "fedit/core/error.h"

namespace fedit {

ByteWriter& ByteWriter::put(std::string_view text) {
    return put_all(std::span<const char>(text));
}

void ByteWriter::append(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

std::string ByteReader::get_text() {
    const auto count = get<std::uint64_t>();
    check(count, 1);
    std::string text(count, '\0');
    copy(text.data(), count);
    return text;
}

void ByteReader::check(std::uint64_t count, std::size_t size) const {
    if (count <= bytes_.size() / size) return;
    throw RunError({.what = fmt::format("a message between ranks is too short: {} values of {} "
                                        "bytes expected, {} bytes left",
                                        count, size, bytes_.size()),
                    .where = "comm/message",
                    .remedy = "check that all ranks run the same build of fedit"});
}

void ByteReader::copy(void* to, std::size_t size) {
    if (size == 0) return;  // an empty vector's data may be null
    check(1, size);
    std::memcpy(to, bytes_.data(), size);
    bytes_ = bytes_.subspan(size);
}

}  // namespace fedit
