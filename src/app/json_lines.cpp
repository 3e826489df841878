// app/json_lines.cpp: reads lines, and gathers their faults.
#include "app/json_lines.h"

#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <vector>

#include "fedit/core/error.h"

namespace fedit {
namespace {

constexpr std::size_t most_faults = 20;

void read_stream(std::istream& in, const std::string& source,
                 const std::function<void(const Json&)>& take) {
    std::vector<Fault> faults;
    std::string line;
    for (std::size_t number = 1; std::getline(in, line); ++number) {
        try {
            take(Json::parse(line, fmt::format("{}, line {}", source, number)));
        } catch (const InputError& error) {
            faults.insert(faults.end(), error.faults().begin(), error.faults().end());
            if (faults.size() >= most_faults) break;
        }
    }
    if (in.bad()) {
        throw RunError({.what = "cannot read the lines to their end",
                        .where = source,
                        .remedy = "check the disk or the program that writes the pipe"});
    }
    if (!faults.empty()) throw InputError(std::move(faults));
}

}  // namespace

void read_json_lines(const std::string& path, const std::string& wanted,
                     const std::function<void(const Json&)>& take) {
    if (path == "-") return read_stream(std::cin, "standard input", take);
    std::ifstream in(path);
    if (!in) {
        throw InputError({.what = fmt::format("cannot open the file of {}", wanted),
                          .where = path,
                          .remedy = "give --input a readable file with one JSON string a line, or "
                                    "- for standard input"});
    }
    read_stream(in, path, take);
}

}  // namespace fedit
