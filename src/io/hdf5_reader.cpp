// io/hdf5_reader.cpp: reads an HDF5 image that has passed the checks of its header.
#include <fmt/format.h>

#include <algorithm>

#include "fedit/core/error.h"
#include "fedit/io/atomic_file.h"
#include "fedit/io/hdf5_image.h"
#include "io/hdf5_handle.h"
#include "io/hdf5_header.h"

namespace fedit {
namespace {

constexpr std::size_t memory_increment = std::size_t{1} << 20;

Hdf5File open_image(std::vector<std::byte>& bytes, const void* owner, const std::string& source) {
    silence_hdf5();
    const Hdf5Properties access(H5Pcreate(H5P_FILE_ACCESS), "create a property list", source);
    require_hdf5(H5Pset_fapl_core(access.get(), memory_increment, false) >= 0, "use memory",
                 source);
    require_hdf5(H5Pset_file_image(access.get(), bytes.data(), bytes.size()) >= 0, "take the image",
                 source);
    // The library tells open files apart by name; nothing can exist below /dev/null.
    const std::string name = fmt::format("/dev/null/fedit-reader-{}", owner);
    return {H5Fopen(name.c_str(), H5F_ACC_RDONLY, access.get()), "open the image", source};
}

/// The strings that HDF5 allocated for a read; gives them back.
class TextBuffer {
public:
    explicit TextBuffer(std::size_t count) : pointers_(count, nullptr) {}
    TextBuffer(const TextBuffer&) = delete;
    TextBuffer& operator=(const TextBuffer&) = delete;
    ~TextBuffer() {
        for (char* pointer : pointers_) H5free_memory(pointer);
    }
    void* data() { return pointers_.data(); }
    std::vector<std::string> texts() const {
        std::vector<std::string> copies;
        copies.reserve(pointers_.size());
        for (const char* pointer : pointers_)
            copies.emplace_back(pointer == nullptr ? "" : pointer);
        return copies;
    }

private:
    std::vector<char*> pointers_;
};

bool is_float_of(const Hdf5Type& type, std::size_t largest) {
    return H5Tget_class(type.get()) == H5T_FLOAT && H5Tget_size(type.get()) <= largest;
}

bool is_int(const Hdf5Type& type) {
    return H5Tget_class(type.get()) == H5T_INTEGER && H5Tget_size(type.get()) <= 8 &&
           H5Tget_sign(type.get()) == H5T_SGN_2;
}

bool is_text(const Hdf5Type& type) {
    return H5Tis_variable_str(type.get()) > 0;
}

}  // namespace

struct Hdf5Reader::Impl {
    Impl(std::vector<std::byte> bytes, FileKind kind, std::string name) : source(std::move(name)) {
        if (auto fault = find_file_fault(bytes, kind, source)) throw InputError(std::move(*fault));
        file.emplace_back(open_image(bytes, this, source));
    }

    [[noreturn]] void fail(std::string what, const std::string& place) const {
        throw InputError({.what = std::move(what),
                          .where = source + ", " + place,
                          .remedy = "give a file that this version of fedit wrote"});
    }

    bool has(const std::string& path) const {
        // H5Lexists fails where a group on the way is missing, so ask for each in turn.
        for (std::size_t at = path.find_first_not_of('/'); at < path.size();) {
            at = std::min(path.find('/', at), path.size());
            if (H5Lexists(id(), path.substr(0, at).c_str(), H5P_DEFAULT) <= 0) return false;
            at = path.find_first_not_of('/', at);
        }
        return true;
    }

    Hdf5Object open(const std::string& path) const {
        if (!has(path)) fail("there is no " + path, path);
        return {H5Oopen(id(), path.empty() ? "/" : path.c_str(), H5P_DEFAULT), "open an object",
                source};
    }

    /// Reads one attribute into `value`, if its type passes `accepts`.
    template <class Accepts>
    void read_attribute(const std::string& group, const std::string& name, hid_t memory,
                        Accepts accepts, std::string_view wanted, void* value) const {
        const std::string place = "attribute " + name + " of " + group;
        const Hdf5Object object = open(group);
        if (H5Aexists(object.get(), name.c_str()) <= 0)
            fail("there is no attribute " + name, place);
        const Hdf5Attribute attribute(H5Aopen(object.get(), name.c_str(), H5P_DEFAULT),
                                      "open an attribute", source);
        const Hdf5Type type(H5Aget_type(attribute.get()), "get a type", source);
        const Hdf5Space space(H5Aget_space(attribute.get()), "get a space", source);
        if (!accepts(type) || H5Sget_simple_extent_npoints(space.get()) != 1) {
            fail(fmt::format("expected {}", wanted), place);
        }
        require_hdf5(H5Aread(attribute.get(), memory, value) >= 0, "read an attribute", source);
    }

    /// Reads a column; `resize(n)` returns where its n values go.
    template <class Accepts, class Resize>
    void read_column(const std::string& path, hid_t memory, Accepts accepts,
                     std::string_view wanted, Resize resize) const {
        const std::string place = "column " + path;
        const Hdf5Object object = open(path);
        if (H5Iget_type(object.get()) != H5I_DATASET)
            fail("expected a column, found a group", place);
        const Hdf5Type type(H5Dget_type(object.get()), "get a type", source);
        const Hdf5Space space(H5Dget_space(object.get()), "get a space", source);
        if (H5Sget_simple_extent_ndims(space.get()) != 1) fail("expected one dimension", place);
        if (!accepts(type)) fail(fmt::format("expected {}", wanted), place);
        const hssize_t count = H5Sget_simple_extent_npoints(space.get());
        require_hdf5(count >= 0, "measure a column", source);
        void* values = resize(static_cast<std::size_t>(count));
        if (count == 0) return;
        require_hdf5(H5Dread(object.get(), memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0,
                     "read a column", source);
    }

    template <class Value, class Accepts>
    std::vector<Value> read_numbers(const std::string& path, hid_t memory, Accepts accepts,
                                    std::string_view wanted) const {
        std::vector<Value> values;
        read_column(path, memory, accepts, wanted, [&](std::size_t count) {
            values.resize(count);
            return static_cast<void*>(values.data());
        });
        return values;
    }

    hid_t id() const { return file.front().get(); }

    std::string source;
    std::vector<Hdf5File> file;
};

Hdf5Reader::Hdf5Reader(const std::filesystem::path& path, FileKind kind)
    : Hdf5Reader(read_file(path), kind, path.string()) {}
Hdf5Reader::Hdf5Reader(std::vector<std::byte> file, FileKind kind, std::string source)
    : impl_(std::make_unique<Impl>(std::move(file), kind, std::move(source))) {}
Hdf5Reader::~Hdf5Reader() = default;
Hdf5Reader::Hdf5Reader(Hdf5Reader&&) noexcept = default;
Hdf5Reader& Hdf5Reader::operator=(Hdf5Reader&&) noexcept = default;

const std::string& Hdf5Reader::source() const {
    return impl_->source;
}

bool Hdf5Reader::has(const std::string& path) const {
    return impl_->has(path);
}

std::vector<std::string> Hdf5Reader::names(const std::string& group) const {
    const Hdf5Object object = impl_->open(group);
    H5G_info_t info{};
    if (H5Gget_info(object.get(), &info) < 0)
        impl_->fail("expected a group, found a column", group);
    std::vector<std::string> names;
    for (hsize_t i = 0; i < info.nlinks; ++i) {
        const auto read_name = [&](char* name, std::size_t size) {
            return H5Lget_name_by_idx(object.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, name, size,
                                      H5P_DEFAULT);
        };
        const ssize_t length = read_name(nullptr, 0);
        require_hdf5(length >= 0, "list a group", group);
        std::string name(static_cast<std::size_t>(length), '\0');
        require_hdf5(read_name(name.data(), name.size() + 1) == length, "list a group", group);
        names.push_back(std::move(name));
    }
    return names;
}

bool Hdf5Reader::has_attribute(const std::string& group, const std::string& name) const {
    return impl_->has(group) && H5Aexists(impl_->open(group).get(), name.c_str()) > 0;
}

std::string Hdf5Reader::text_attribute(const std::string& group, const std::string& name) const {
    const Hdf5Type memory = make_text_type();
    TextBuffer buffer(1);
    impl_->read_attribute(group, name, memory.get(), is_text, "text", buffer.data());
    return buffer.texts().front();
}

std::int64_t Hdf5Reader::int_attribute(const std::string& group, const std::string& name) const {
    std::int64_t value = 0;
    impl_->read_attribute(group, name, H5T_NATIVE_INT64, is_int, "an integer", &value);
    return value;
}

double Hdf5Reader::double_attribute(const std::string& group, const std::string& name) const {
    double value = 0;
    const auto accepts = [](const Hdf5Type& type) { return is_float_of(type, sizeof(double)); };
    impl_->read_attribute(group, name, H5T_NATIVE_DOUBLE, accepts, "a floating-point number",
                          &value);
    return value;
}

std::vector<float> Hdf5Reader::floats(const std::string& path) const {
    const auto accepts = [](const Hdf5Type& type) { return is_float_of(type, sizeof(float)); };
    return impl_->read_numbers<float>(path, H5T_NATIVE_FLOAT, accepts, "floats of 32 bits");
}

std::vector<double> Hdf5Reader::doubles(const std::string& path) const {
    const auto accepts = [](const Hdf5Type& type) { return is_float_of(type, sizeof(double)); };
    return impl_->read_numbers<double>(path, H5T_NATIVE_DOUBLE, accepts, "floating-point numbers");
}

std::vector<std::int64_t> Hdf5Reader::ints(const std::string& path) const {
    return impl_->read_numbers<std::int64_t>(path, H5T_NATIVE_INT64, is_int, "signed integers");
}

std::vector<std::string> Hdf5Reader::strings(const std::string& path) const {
    const Hdf5Type memory = make_text_type();
    std::unique_ptr<TextBuffer> buffer;
    impl_->read_column(path, memory.get(), is_text, "text", [&](std::size_t count) {
        buffer = std::make_unique<TextBuffer>(count);
        return buffer->data();
    });
    return buffer->texts();
}

}  // namespace fedit
