// io/sha256.h: content hashes (SHA-256 by OpenSSL), for file headers and identities.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace fedit {

using Digest = std::array<std::byte, 32>;

/// Hashes a sequence of pieces. `finish` may be called once.
class Sha256 {
public:
    Sha256();
    ~Sha256();
    Sha256(Sha256&&) noexcept;
    Sha256& operator=(Sha256&&) noexcept;

    Sha256& add(std::span<const std::byte> bytes);
    Sha256& add(std::string_view text);
    Digest finish();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

Digest sha256(std::span<const std::byte> bytes);
std::string to_hex(const Digest& digest);

}  // namespace fedit
