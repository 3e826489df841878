// io/read_file.cpp: reads whole files.
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fedit/core/error.h"
#include "fedit/core/progress.h"
#include "fedit/io/atomic_file.h"
#include "io/file_descriptor.h"
#include "io/io_error.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void throw_too_large(const fs::path& path, std::size_t size, std::size_t limit) {
    throw InputError({.what = "the file is too large: " + format_bytes(std::int64_t(size)),
                      .where = path.string(),
                      .remedy = "give a file of at most " + format_bytes(std::int64_t(limit))});
}

/// Reads to the end of the file, which may have grown or shrunk since its size was asked for.
template <class Container>
Container read_whole(const fs::path& path, std::size_t limit) {
    const FileDescriptor file = open_for_reading(path);
    const std::size_t expected = file_size(file, path);
    if (expected > limit) throw_too_large(path, expected, limit);
    Container content;
    content.resize(expected);
    std::size_t filled = 0;
    for (;;) {
        if (filled == content.size()) {
            std::byte extra{};
            const ssize_t more = ::read(file.get(), &extra, 1);
            if (more == 0) return content;
            if (more < 0 && errno == EINTR) continue;
            if (more < 0) throw_read_error(errno, path);
            if (filled == limit) throw_too_large(path, filled + 1, limit);
            content.push_back(static_cast<typename Container::value_type>(extra));
            ++filled;
            content.resize(std::min(limit, content.size() * 2));
            continue;
        }
        const ssize_t got = ::read(file.get(), content.data() + filled, content.size() - filled);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw_read_error(errno, path);
        if (got == 0) {
            content.resize(filled);
            return content;
        }
        filled += static_cast<std::size_t>(got);
    }
}

}  // namespace

std::vector<std::byte> read_file(const fs::path& path, std::size_t limit) {
    return read_whole<std::vector<std::byte>>(path, limit);
}

std::string read_text_file(const fs::path& path) {
    return read_whole<std::string>(path, std::size_t{1} << 40);
}

}  // namespace fedit
