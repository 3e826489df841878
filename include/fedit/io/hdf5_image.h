// io/hdf5_image.h: HDF5 files built and read in memory, behind a 512-byte header of our own that is
// checked before HDF5 sees a byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fedit/io/sha256.h"

namespace fedit {

/// What a file of ours is. Part of the header; a reader refuses the wrong kind.
enum class FileKind : std::uint32_t {
    run_log = 1,
    checkpoint = 2,
    client_state = 3,
    client_upload = 4,
    progress = 5
};
std::string_view to_string(FileKind kind);

/// The user block of every file: magic "FEDIT\r\n\x1a", kind, schema, length of the image, SHA-256
/// of the image. HDF5 sees 512 bytes of user block, so h5py, h5dump and pandas open the file as it
/// is.
inline constexpr std::size_t file_header_size = 512;
inline constexpr std::uint32_t file_schema = 1;

/// A column's or vector's description, stored as attributes.
struct ColumnInfo {
    std::string units;  ///< "s", "tokens", "1"
    std::string description;
};

/// Builds one HDF5 file in memory. Group names are absolute ("/rounds"); groups are created on use.
/// Columns are one-dimensional, chunked, extendible, Fletcher32.
class Hdf5Writer {
public:
    Hdf5Writer();
    ~Hdf5Writer();
    Hdf5Writer(Hdf5Writer&&) noexcept;
    Hdf5Writer& operator=(Hdf5Writer&&) noexcept;

    void attribute(const std::string& group, const std::string& name, std::string_view text);
    void attribute(const std::string& group, const std::string& name, const char* text) {
        attribute(group, name, std::string_view(text));
    }
    void attribute(const std::string& group, const std::string& name, std::int64_t value);
    void attribute(const std::string& group, const std::string& name, double value);
    void column(const std::string& path, std::span<const float> values, const ColumnInfo& info);
    void column(const std::string& path, std::span<const double> values, const ColumnInfo& info);
    void column(const std::string& path, std::span<const std::int64_t> values,
                const ColumnInfo& info);
    void column(const std::string& path, std::span<const std::string> values,
                const ColumnInfo& info);

    /// Header + image, ready for AtomicFile. The writer is empty afterwards.
    std::vector<std::byte> finish(FileKind kind);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Reads one of our files. The constructor checks magic, kind, schema, length and hash, and throws
/// InputError (file, what is wrong, what to do) before HDF5 is called.
class Hdf5Reader {
public:
    Hdf5Reader(const std::filesystem::path& path, FileKind kind);
    Hdf5Reader(std::vector<std::byte> file, FileKind kind, std::string source);
    ~Hdf5Reader();
    Hdf5Reader(Hdf5Reader&&) noexcept;
    Hdf5Reader& operator=(Hdf5Reader&&) noexcept;

    bool has(const std::string& path) const;  ///< group or column
    std::vector<std::string> names(const std::string& group) const;
    bool has_attribute(const std::string& group, const std::string& name) const;
    std::string text_attribute(const std::string& group, const std::string& name) const;
    std::int64_t int_attribute(const std::string& group, const std::string& name) const;
    double double_attribute(const std::string& group, const std::string& name) const;
    std::vector<float> floats(const std::string& path) const;
    std::vector<double> doubles(const std::string& path) const;
    std::vector<std::int64_t> ints(const std::string& path) const;
    std::vector<std::string> strings(const std::string& path) const;
    const std::string& source() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// True if the file's header is intact and its hash matches; never throws on bad content.
bool is_intact(const std::filesystem::path& path, FileKind kind);

}  // namespace fedit
