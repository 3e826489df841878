// comm/message.h: bytes that ranks send each other, and how plain values get in and out of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace fedit {

using Bytes = std::vector<std::byte>;

/// Appends plain values, in the byte order of this machine: the ranks of a run are alike.
class ByteWriter {
public:
    template <class T>
    requires(!std::is_convertible_v<const T&, std::string_view>) ByteWriter& put(const T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        append(std::as_bytes(std::span(&value, 1)));
        return *this;
    }
    ByteWriter& put(std::string_view text);  ///< read by get_text
    template <class T>
    ByteWriter& put_all(std::span<const T> values) {
        static_assert(std::is_trivially_copyable_v<T>);
        put(static_cast<std::uint64_t>(values.size()));
        append(std::as_bytes(values));
        return *this;
    }
    Bytes take() { return std::move(bytes_); }

private:
    void append(std::span<const std::byte> bytes);
    Bytes bytes_;
};

/// Reads what a ByteWriter wrote, in the same order, without owning it. Throws RunError when the
/// message is shorter than what is asked for.
class ByteReader {
public:
    explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}
    template <class T>
    T get() {
        static_assert(std::is_trivially_copyable_v<T>);
        T value;
        copy(&value, sizeof(T));
        return value;
    }
    std::string get_text();
    template <class T>
    std::vector<T> get_all() {
        const auto count = get<std::uint64_t>();
        check(count, sizeof(T));
        std::vector<T> values(count);
        copy(values.data(), count * sizeof(T));
        return values;
    }
    bool done() const { return bytes_.empty(); }

private:
    void check(std::uint64_t count, std::size_t size) const;
    void copy(void* to, std::size_t size);
    std::span<const std::byte> bytes_;
};

}  // namespace fedit
