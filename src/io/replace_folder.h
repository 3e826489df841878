// io/replace_folder.h: puts a whole new folder where an old one lies.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace fedit {

/// Puts the folder `fresh` at `folder`, in one step where the file system can exchange two names.
/// Afterwards the old folder, if there was one, lies under the name that is returned. Throws
/// IoError.
std::optional<std::filesystem::path> replace_folder(const std::filesystem::path& fresh,
                                                    const std::filesystem::path& folder);

/// The way for file systems that cannot exchange: the old folder lies aside, whole, between two
/// renames. Returns where it lies.
std::filesystem::path replace_by_two_renames(const std::filesystem::path& fresh,
                                             const std::filesystem::path& folder);

/// The folder's name that `name` is the aside name of, or nothing.
std::optional<std::string> folder_of_aside(std::string_view name);

}  // namespace fedit
