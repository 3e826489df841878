// app/new_folder.h: commands that make a folder never overwrite one.
#pragma once

#include <filesystem>

namespace fedit {

/// Throws InputError if `folder` (of --output) holds anything, or is no folder.
void require_new_folder(const std::filesystem::path& folder);

}  // namespace fedit
