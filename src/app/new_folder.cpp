// app/new_folder.cpp: commands that make a folder never overwrite one.
#include "app/new_folder.h"

#include <fmt/format.h>

#include "fedit/core/error.h"

namespace fedit {

namespace fs = std::filesystem;

void require_new_folder(const fs::path& folder) {
    std::error_code error;
    const bool taken = fs::exists(folder, error) &&
                       (!fs::is_directory(folder, error) || !fs::is_empty(folder, error));
    if (!taken && !error) return;
    throw InputError({.what = error ? "cannot look into the output folder: " + error.message()
                                    : "the output folder holds something already",
                      .where = fmt::format("--output {}", folder.string()),
                      .remedy = "name a new folder, or remove this one first"});
}

}  // namespace fedit
