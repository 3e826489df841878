// tests/comm/shared_memory_test.cpp: memory that exists once on a node.
#include "fedit/comm/shared_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <sstream>

#include "fedit/comm/communicator.h"
#include "fedit/core/error.h"
#include "tests/support/mpi_test_main.h"

namespace fedit {
namespace {

std::uint64_t free_shared_bytes() {
    struct statvfs space {};
    EXPECT_EQ(statvfs("/dev/shm", &space), 0);
    return std::uint64_t{space.f_bavail} * space.f_frsize;
}

/// The inode of the file that `address` is mapped from, from the lines of /proc/self/maps:
/// "first-last rights offset device inode path".
std::uint64_t mapped_inode(const void* address) {
    const auto wanted = reinterpret_cast<std::uintptr_t>(address);
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        std::istringstream fields(line);
        std::uintptr_t first = 0, last = 0;
        std::string rights, offset, device;
        std::uint64_t inode = 0;
        char dash = 0;
        fields >> std::hex >> first >> dash >> last >> rights >> offset >> device >> std::dec >>
            inode;
        if (first <= wanted && wanted < last) return inode;
    }
    return 0;
}

/// Reads through volatile, so that each look goes to the memory.
bool all_bytes_are(std::span<const std::byte> bytes, unsigned char value) {
    const auto* begin = reinterpret_cast<const volatile unsigned char*>(bytes.data());
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (begin[i] != value) return false;
    }
    return true;
}

TEST(SharedMemory, AllRanksReadWhatTheLeaderWroteBeforeTheSeal) {
    const Communicator node = test::world().node();
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, std::size_t{4097}, std::size_t{3} << 20}) {
        SharedMemory memory = node.share(size);
        EXPECT_EQ(memory.bytes().size(), size);
        EXPECT_EQ(memory.leader(), node.rank() == 0);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.bytes().data()) % 64, 0U);
        for (const int value : {0x5A, 0xA5}) {
            if (memory.leader()) std::memset(memory.bytes().data(), value, size);
            memory.seal();
            EXPECT_TRUE(all_bytes_are(memory.bytes(), static_cast<unsigned char>(value)));
            node.barrier();  // all have read before the leader writes again
        }
    }
}

TEST(SharedMemory, IsTheSameFileForAllRanks) {
    Communicator& comm = test::world();
    if (comm.size() == 1) GTEST_SKIP() << "a rank alone takes plain memory";
    const SharedMemory memory = comm.share(std::size_t{1} << 20);
    const std::uint64_t inode = mapped_inode(memory.bytes().data());
    EXPECT_NE(inode, 0U);
    EXPECT_TRUE(comm.equal(inode));
}

TEST(SharedMemory, TakesItsPagesAtOnceSoThatTheNextCheckOfFreeSpaceSeesThem) {
    Communicator& comm = test::world();
    if (comm.size() == 1) GTEST_SKIP() << "a rank alone takes plain memory";
    const SharedMemory memory = comm.share(std::size_t{1} << 20);
    comm.barrier();
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    auto first = reinterpret_cast<std::uintptr_t>(memory.bytes().data());
    first = (first + page - 1) / page * page;
    std::vector<unsigned char> resident((memory.bytes().size() - page) / page);
    EXPECT_EQ(mincore(reinterpret_cast<void*>(first), resident.size() * page, resident.data()), 0);
    EXPECT_EQ(std::count(resident.begin(), resident.end(), 0), 0);
}

TEST(SharedMemory, SeveralLiveSideBySideAndMayBeMoved) {
    Communicator& comm = test::world();
    SharedMemory first = comm.share(100), second = comm.share(200);
    if (first.leader()) {
        std::memset(first.bytes().data(), 1, 100);
        std::memset(second.bytes().data(), 2, 200);
    }
    SharedMemory moved = std::move(first);
    moved.seal();
    second.seal();
    EXPECT_TRUE(all_bytes_are(moved.bytes(), 1));
    EXPECT_TRUE(all_bytes_are(second.bytes(), 2));
    static_assert(!std::is_copy_constructible_v<SharedMemory>);
    static_assert(std::is_nothrow_move_constructible_v<SharedMemory>);
}

TEST(SharedMemory, OutlivesTheCommunicatorItCameFrom) {
    SharedMemory memory = test::world().node().share(10);
    if (memory.leader()) std::memset(memory.bytes().data(), 7, 10);
    memory.seal();
    EXPECT_TRUE(all_bytes_are(memory.bytes(), 7));
}

TEST(SharedMemory, MoreThanTheFolderHoldsIsAnErrorThatNamesSizeAndFolder) {
    Communicator& comm = test::world();
    if (comm.size() == 1) GTEST_SKIP() << "a rank alone takes plain memory";
    std::int64_t total = 0;
    if (comm.rank() == 0) total = static_cast<std::int64_t>(free_shared_bytes() >> 20) + 1024;
    const std::int64_t mebibytes = comm.sum(total);
    try {
        const SharedMemory memory = comm.share(static_cast<std::size_t>(mebibytes) << 20);
        ADD_FAILURE() << "nothing was thrown";
    } catch (const RunError& error) {
        const std::string text = error.what();
        EXPECT_NE(text.find(std::to_string(mebibytes)), std::string::npos) << text;
        EXPECT_NE(text.find("/dev/shm"), std::string::npos) << text;
        EXPECT_EQ(error.exit_code(), ExitCode::failure);
        EXPECT_EQ(dynamic_cast<const IoError*>(&error) != nullptr, comm.rank() == 0);
    }
    EXPECT_EQ(comm.sum(std::int64_t{1}), comm.size());  // nobody is left behind
}

}  // namespace
}  // namespace fedit
