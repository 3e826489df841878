// io/safetensors.h: reads and writes safetensors files; knows no model. Every check that the format
// asks for is made before a byte of data is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fedit {

/// Element types a file may hold. Only f32, f16, bf16 can be read as floats.
enum class StoredType : std::uint8_t {
    boolean,
    u8,
    i8,
    f8_e5m2,
    f8_e4m3,
    i16,
    u16,
    f16,
    bf16,
    i32,
    u32,
    f32,
    i64,
    u64,
    f64
};
std::string_view to_string(StoredType type);  ///< as the format spells it: "F32", "BF16"
std::size_t size_of(StoredType type);         ///< bytes an element

/// Where one tensor lies in its file.
struct StoredTensor {
    StoredType type{};
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0, end = 0;  ///< bytes, from the start of the data section
    std::int64_t elements() const;
};

/// A safetensors file, mapped read-only. Throws InputError, naming file and tensor, on anything
/// that the format forbids: lying lengths, holes, overlaps, unknown types, duplicate keys.
class SafetensorsFile {
public:
    explicit SafetensorsFile(const std::filesystem::path& path);
    ~SafetensorsFile();
    SafetensorsFile(SafetensorsFile&&) noexcept;
    SafetensorsFile& operator=(SafetensorsFile&&) noexcept;

    const std::filesystem::path& path() const;
    const std::map<std::string, StoredTensor>& tensors() const;
    const std::map<std::string, std::string>& metadata() const;
    bool has(const std::string& name) const;
    /// Throws InputError, listing similar names, if there is none.
    const StoredTensor& tensor(const std::string& name) const;
    std::span<const std::byte> bytes(const std::string& name) const;
    /// Converts f32, f16 or bf16 (f64 is refused) to floats; `out` has tensor(name).elements(). The
    /// place of the first that is NaN or infinite, or their number.
    std::int64_t read_floats(const std::string& name, std::span<float> out, int threads = 1) const;
    std::vector<float> read_floats(const std::string& name) const;
    /// Reads i32, or i64 whose values fit.
    std::vector<std::int32_t> read_int32(const std::string& name) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// One tensor to write.
struct TensorToWrite {
    std::string name;
    StoredType type{};
    std::vector<std::int64_t> shape;
    std::span<const std::byte> bytes;
};

/// The bytes of a file: tensors ordered by alignment, then name; header padded to 8 bytes.
std::vector<std::byte> encode_safetensors(std::span<const TensorToWrite> tensors,
                                          const std::map<std::string, std::string>& metadata = {});

/// Numbers of type f32, f16 or bf16 (else InputError), at any address, as floats: the place of the
/// first that is NaN or infinite, or their number if none is. On up to `threads` threads.
std::int64_t to_floats(StoredType type, std::span<const std::byte> from, float* to,
                       int threads = 1);
/// The same place, of numbers that are left as they are.
std::int64_t first_not_finite(StoredType type, std::span<const std::byte> from, int threads = 1);

float bf16_to_float(std::uint16_t bits);
float f16_to_float(std::uint16_t bits);
/// Round to nearest even; NaN stays NaN, and what is beyond the largest becomes an infinity.
std::uint16_t float_to_bf16(float value);
std::uint16_t float_to_f16(float value);

}  // namespace fedit
