// io/hdf5_handle.h: owns one HDF5 identifier; nothing else calls an H5*close.
#pragma once

#include <hdf5.h>

#include <string_view>
#include <type_traits>
#include <utility>

namespace fedit {

/// Throws RunError "HDF5 cannot ACTION: the library's innermost reason" unless `succeeded`.
void require_hdf5(bool succeeded, std::string_view action, std::string_view where);

/// HDF5 prints its errors by itself unless it is told not to. Call before any other function of it.
void silence_hdf5() noexcept;

/// A move-only identifier. The destructor ignores a failed release: all our files lie in memory.
template <herr_t (*release)(hid_t)>
class Hdf5Handle {
public:
    /// Takes over `id`; throws if it is negative.
    Hdf5Handle(hid_t id, std::string_view action, std::string_view where) : id_(id) {
        require_hdf5(id >= 0, action, where);
    }
    Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
    Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
        std::swap(id_, other.id_);
        return *this;
    }
    ~Hdf5Handle() {
        if (id_ >= 0) release(id_);
    }
    /// Writers must call this: a failed write may show only here.
    void close(std::string_view action, std::string_view where) {
        require_hdf5(release(std::exchange(id_, H5I_INVALID_HID)) >= 0, action, where);
    }
    hid_t get() const noexcept { return id_; }

private:
    hid_t id_;
};

using Hdf5File = Hdf5Handle<H5Fclose>;
using Hdf5Object = Hdf5Handle<H5Oclose>;
using Hdf5Group = Hdf5Handle<H5Gclose>;
using Hdf5Dataset = Hdf5Handle<H5Dclose>;
using Hdf5Attribute = Hdf5Handle<H5Aclose>;
using Hdf5Space = Hdf5Handle<H5Sclose>;
using Hdf5Type = Hdf5Handle<H5Tclose>;
using Hdf5Properties = Hdf5Handle<H5Pclose>;
static_assert(!std::is_copy_constructible_v<Hdf5File>);
static_assert(std::is_nothrow_move_constructible_v<Hdf5File>);

/// UTF-8 text of any length, the only string type in our files.
Hdf5Type make_text_type();

}  // namespace fedit
