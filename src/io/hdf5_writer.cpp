// io/hdf5_writer.cpp: builds an HDF5 file in memory (core driver without a file behind it).
#include <fmt/format.h>

#include <algorithm>

#include "fedit/core/error.h"
#include "fedit/io/hdf5_image.h"
#include "io/hdf5_handle.h"
#include "io/hdf5_header.h"

namespace fedit {
namespace {

constexpr std::size_t memory_increment = std::size_t{1} << 20;
constexpr hsize_t largest_chunk = 65'536;  // elements

Hdf5Properties make_properties(hid_t list_class) {
    return {H5Pcreate(list_class), "create a property list", "new file"};
}

/// Times of creation would make two files of equal content differ.
void omit_times(const Hdf5Properties& properties) {
    require_hdf5(H5Pset_obj_track_times(properties.get(), false) >= 0, "omit times", "new file");
}

Hdf5File create_in_memory(const void* owner) {
    const Hdf5Properties creation = make_properties(H5P_FILE_CREATE);
    omit_times(creation);
    require_hdf5(H5Pset_userblock(creation.get(), file_header_size) >= 0, "set the user block",
                 "new file");
    const Hdf5Properties access = make_properties(H5P_FILE_ACCESS);
    require_hdf5(H5Pset_fapl_core(access.get(), memory_increment, false) >= 0, "use memory",
                 "new file");
    // The library tells open files apart by name; nothing can exist below /dev/null.
    const std::string name = fmt::format("/dev/null/fedit-writer-{}", owner);
    return {H5Fcreate(name.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()),
            "create a file in memory", "new file"};
}

std::vector<std::string> split_path(const std::string& path) {
    std::vector<std::string> parts;
    std::size_t begin = 0;
    while (begin <= path.size()) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        if (end > begin) parts.push_back(path.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

void require_text(std::string_view text, const std::string& where) {
    if (text.find('\0') == std::string_view::npos) return;
    throw RunError({.what = "text with a zero byte cannot be stored in HDF5",
                    .where = where,
                    .remedy = "remove the zero byte from the text"});
}

}  // namespace

struct Hdf5Writer::Impl {
    Hdf5Object open_or_create(const std::string& path) const {
        Hdf5Object at(H5Oopen(file.get(), "/", H5P_DEFAULT), "open the root", path);
        const Hdf5Properties creation = make_properties(H5P_GROUP_CREATE);
        omit_times(creation);
        for (const std::string& part : split_path(path)) {
            const htri_t exists = H5Lexists(at.get(), part.c_str(), H5P_DEFAULT);
            require_hdf5(exists >= 0, "look up a group", path);
            hid_t next = exists > 0 ? H5Oopen(at.get(), part.c_str(), H5P_DEFAULT)
                                    : H5Gcreate2(at.get(), part.c_str(), H5P_DEFAULT,
                                                 creation.get(), H5P_DEFAULT);
            at = Hdf5Object(next, "create a group", path);
        }
        return at;
    }

    void put_attribute(hid_t object, const std::string& where, const std::string& name,
                       hid_t stored, hid_t memory, const void* value) const {
        const Hdf5Space space(H5Screate(H5S_SCALAR), "create a scalar", where);
        Hdf5Attribute attribute(
            H5Acreate2(object, name.c_str(), stored, space.get(), H5P_DEFAULT, H5P_DEFAULT),
            "create an attribute", where);
        require_hdf5(H5Awrite(attribute.get(), memory, value) >= 0, "write an attribute", where);
        attribute.close("close an attribute", where);
    }

    void put_text(hid_t object, const std::string& where, const std::string& name,
                  std::string_view text) const {
        require_text(text, where);
        const Hdf5Type type = make_text_type();
        const std::string terminated(text);
        const char* pointer = terminated.c_str();
        put_attribute(object, where, name, type.get(), type.get(),
                      static_cast<const void*>(&pointer));
    }

    void put_column(const std::string& path, hid_t stored, hid_t memory, const void* values,
                    std::size_t count, const ColumnInfo& info) const {
        const std::string where = "column " + path;
        const std::size_t slash = path.rfind('/');
        const Hdf5Object group =
            open_or_create(path.substr(0, slash == std::string::npos ? 0 : slash));
        const hsize_t size = count;
        const hsize_t no_limit = H5S_UNLIMITED;
        const hsize_t chunk = std::clamp<hsize_t>(size, 1, largest_chunk);
        const Hdf5Space space(H5Screate_simple(1, &size, &no_limit), "create a space", where);
        const Hdf5Properties creation = make_properties(H5P_DATASET_CREATE);
        omit_times(creation);
        require_hdf5(H5Pset_chunk(creation.get(), 1, &chunk) >= 0, "set the chunk size", where);
        // HDF5 has no checksum for text of variable length; the file's own hash covers it.
        if (H5Tis_variable_str(stored) == 0) {
            require_hdf5(H5Pset_fletcher32(creation.get()) >= 0, "set the checksum", where);
        }
        const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
        Hdf5Dataset dataset(H5Dcreate2(group.get(), name.c_str(), stored, space.get(), H5P_DEFAULT,
                                       creation.get(), H5P_DEFAULT),
                            "create a column", where);
        if (count > 0) {
            require_hdf5(
                H5Dwrite(dataset.get(), memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0,
                "write a column", where);
        }
        put_text(dataset.get(), where, "units", info.units);
        put_text(dataset.get(), where, "description", info.description);
        dataset.close("close a column", where);
    }

    Hdf5File file = (silence_hdf5(), create_in_memory(this));
};

Hdf5Writer::Hdf5Writer() : impl_(std::make_unique<Impl>()) {}
Hdf5Writer::~Hdf5Writer() = default;
Hdf5Writer::Hdf5Writer(Hdf5Writer&&) noexcept = default;
Hdf5Writer& Hdf5Writer::operator=(Hdf5Writer&&) noexcept = default;

void Hdf5Writer::attribute(const std::string& group, const std::string& name,
                           std::string_view text) {
    const Hdf5Object object = impl_->open_or_create(group);
    impl_->put_text(object.get(), "attribute " + name + " of " + group, name, text);
}

void Hdf5Writer::attribute(const std::string& group, const std::string& name, std::int64_t value) {
    const Hdf5Object object = impl_->open_or_create(group);
    impl_->put_attribute(object.get(), "attribute " + name + " of " + group, name, H5T_STD_I64LE,
                         H5T_NATIVE_INT64, &value);
}

void Hdf5Writer::attribute(const std::string& group, const std::string& name, double value) {
    const Hdf5Object object = impl_->open_or_create(group);
    impl_->put_attribute(object.get(), "attribute " + name + " of " + group, name, H5T_IEEE_F64LE,
                         H5T_NATIVE_DOUBLE, &value);
}

void Hdf5Writer::column(const std::string& path, std::span<const float> values,
                        const ColumnInfo& info) {
    impl_->put_column(path, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values.data(), values.size(), info);
}

void Hdf5Writer::column(const std::string& path, std::span<const double> values,
                        const ColumnInfo& info) {
    impl_->put_column(path, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, values.data(), values.size(), info);
}

void Hdf5Writer::column(const std::string& path, std::span<const std::int64_t> values,
                        const ColumnInfo& info) {
    impl_->put_column(path, H5T_STD_I64LE, H5T_NATIVE_INT64, values.data(), values.size(), info);
}

void Hdf5Writer::column(const std::string& path, std::span<const std::string> values,
                        const ColumnInfo& info) {
    std::vector<const char*> pointers;
    for (const std::string& value : values) {
        require_text(value, "column " + path);
        pointers.push_back(value.c_str());
    }
    const Hdf5Type type = make_text_type();
    impl_->put_column(path, type.get(), type.get(), pointers.data(), pointers.size(), info);
}

std::vector<std::byte> Hdf5Writer::finish(FileKind kind) {
    const hid_t file = impl_->file.get();
    require_hdf5(H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0, "flush", "new file");
    const ssize_t size = H5Fget_file_image(file, nullptr, 0);
    require_hdf5(size > 0, "measure the image", "new file");
    // The image begins behind the user block, where the header goes.
    std::vector<std::byte> bytes(file_header_size + static_cast<std::size_t>(size));
    const std::span<std::byte> image = std::span(bytes).subspan(file_header_size);
    require_hdf5(H5Fget_file_image(file, image.data(), image.size()) == size, "copy the image",
                 "new file");
    impl_ = std::make_unique<Impl>();
    std::ranges::copy(make_file_header(kind, image), bytes.begin());
    return bytes;
}

}  // namespace fedit
