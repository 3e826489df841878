// io/hdf5_handle.cpp: HDF5's error stack as one sentence of ours.
#include "io/hdf5_handle.h"

#include <fmt/format.h>

#include <string>

#include "fedit/core/error.h"

namespace fedit {
namespace {

herr_t keep_innermost(unsigned position, const H5E_error2_t* error, void* reason) noexcept {
    // The library's own texts are short; this fits without an allocation that could throw.
    if (position == 0 && error->desc != nullptr) *static_cast<const char**>(reason) = error->desc;
    return 0;
}

}  // namespace

void silence_hdf5() noexcept {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

void require_hdf5(bool succeeded, std::string_view action, std::string_view where) {
    if (succeeded) return;
    const char* reason = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, static_cast<void*>(&reason));
    throw RunError(
        {.what = fmt::format("HDF5 cannot {}: {}", action, reason),
         .where = std::string(where),
         .remedy = "check that memory is left on this machine; else please report this"});
}

Hdf5Type make_text_type() {
    Hdf5Type type(H5Tcopy(H5T_C_S1), "copy a type", "text type");
    require_hdf5(H5Tset_size(type.get(), H5T_VARIABLE) >= 0, "size a type", "text type");
    require_hdf5(H5Tset_cset(type.get(), H5T_CSET_UTF8) >= 0, "set a character set", "text type");
    return type;
}

}  // namespace fedit
