// text/client_folder.cpp: ready client files in Shepherd's layout.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "fedit/core/error.h"
#include "fedit/text/dataset.h"
#include "text/fault_list.h"

namespace fedit {
namespace {

std::string client_file_name(int k) {
    return fmt::format("local_training_{}.json", k);
}

// k of "local_training_<k>.json"; nothing for other names.
std::optional<int> client_of(std::string_view name) {
    constexpr std::string_view before = "local_training_", behind = ".json";
    if (!name.starts_with(before) || !name.ends_with(behind)) return std::nullopt;
    if (name.size() <= before.size() + behind.size()) return std::nullopt;
    const char* end = name.data() + name.size() - behind.size();
    int k = 0;
    const auto [stopped, error] = std::from_chars(name.data() + before.size(), end, k);
    if (error != std::errc{} || stopped != end || client_file_name(k) != name) return std::nullopt;
    return k;
}

std::map<int, std::filesystem::path> client_files(const std::filesystem::path& folder) {
    std::map<int, std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (const auto k = client_of(entry.path().filename().string())) files[*k] = entry.path();
    }
    return files;
}

// How many clients there are to be: all files without a gap, or the `wanted` first ones.
int count_clients(const std::map<int, std::filesystem::path>& files, int wanted,
                  const std::filesystem::path& folder) {
    if (files.empty()) {
        throw InputError({.what = "there is no client file",
                          .where = folder.string(),
                          .remedy = "give local_training_0.json, local_training_1.json, ..."});
    }
    const int count = wanted < 0 ? files.rbegin()->first + 1 : wanted;
    FaultList faults;
    for (int k = 0; k < count; ++k) {
        if (files.contains(k)) continue;
        faults.add({.what = fmt::format("{} is missing", client_file_name(k)),
                    .where = folder.string(),
                    .remedy = wanted < 0 ? "number the files without a gap from 0"
                                         : fmt::format("{} clients were asked for; give that many "
                                                       "files or ask for fewer clients",
                                                       wanted)});
    }
    faults.throw_if_any(folder.string());
    return count;
}

}  // namespace

std::filesystem::path held_out_file(const std::filesystem::path& data) {
    return std::filesystem::is_directory(data) ? data / "global_test.json" : data;
}

ClientFolder read_client_folder(const std::filesystem::path& folder, int num_clients) {
    if (!std::filesystem::is_directory(folder)) {
        throw InputError({.what = "this is no folder",
                          .where = folder.string(),
                          .remedy = "give a folder with local_training_<k>.json files"});
    }
    if (num_clients == 0) {
        throw InputError({.what = "0 clients were asked for",
                          .where = folder.string(),
                          .remedy = "ask for at least 1 client"});
    }
    const auto files = client_files(folder);
    const int count = count_clients(files, num_clients, folder);
    ClientFolder result;
    FaultList faults;
    const auto read = [&](const std::filesystem::path& path,
                          NoRecords none) -> std::vector<Record> {
        try {
            return read_records(path, none);
        } catch (const InputError& error) {
            faults.add(error);
            return {};
        }
    };
    for (int k = 0; k < count; ++k)
        result.clients.push_back(read(files.at(k), NoRecords::fine_in_array));
    const std::filesystem::path test = held_out_file(folder);
    if (std::filesystem::exists(test)) result.test = read(test, NoRecords::fault);
    faults.throw_if_any(folder.string());
    return result;
}

}  // namespace fedit
