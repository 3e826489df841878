// tests/fuzz/input_file.h: what the fuzz targets share: foreign bytes as files, and what a reader
// may do with them.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "fedit/core/error.h"
#include "fedit/io/json.h"

namespace fedit::fuzz {

/// A folder of this process alone, in memory where the system has such a place; removed at the end.
class InputFolder {
public:
    InputFolder()
        : path_((std::filesystem::is_directory("/dev/shm")
                     ? std::filesystem::path("/dev/shm")
                     : std::filesystem::temp_directory_path()) /
                ("fedit-fuzz-" + std::to_string(::getpid()))) {
        std::filesystem::create_directories(path_);
    }
    InputFolder(const InputFolder&) = delete;
    InputFolder& operator=(const InputFolder&) = delete;
    ~InputFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    const std::filesystem::path& path() const { return path_; }

    std::filesystem::path write(const std::string& name, std::string_view bytes) const {
        const std::filesystem::path file = path_ / name;
        std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
        return file;
    }
    void remove(const std::string& name) const { std::filesystem::remove(path_ / name); }

private:
    std::filesystem::path path_;
};

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

/// Two inputs in one: what stands before the first zero byte, and what behind it.
inline std::pair<std::string_view, std::string_view> halves(std::string_view input) {
    const std::size_t zero = input.find('\0');
    if (zero == std::string_view::npos) return {input, {}};
    return {input.substr(0, zero), input.substr(zero + 1)};
}

/// A property that every input must have; where one has it not, the reader is wrong.
inline void require(bool holds, const char* property) {
    if (!holds) throw std::logic_error(property);
}

/// Whether `text` is UTF-8: a writer that puts U+FFFD for all else gives it back.
inline bool is_utf8(std::string_view text) {
    JsonWriter writer;
    const std::string written = writer.set("text", text).text();
    return Json::parse(written, "text")["text"].as_string() == text;
}

/// Runs `read` on foreign bytes. It may refuse them, by an error that says what and where; a
/// ShapeError is a mistake of ours, as is any other exception.
template <class Read>
int judge(Read&& read) {
    try {
        std::forward<Read>(read)();
    } catch (const ShapeError&) {
        throw;
    } catch (const Error& error) {
        require(!error.faults().empty(), "an error names a fault");
        for (const Fault& fault : error.faults()) {
            require(!fault.what.empty() && !fault.where.empty(), "a fault says what and where");
        }
    }
    return 0;
}

}  // namespace fedit::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
