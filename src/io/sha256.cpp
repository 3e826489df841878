// io/sha256.cpp: SHA-256 through OpenSSL's EVP interface.
#include "fedit/io/sha256.h"

#include <openssl/evp.h>

#include "fedit/core/error.h"

namespace fedit {
namespace {

struct FreeContext {
    void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
};

void require(bool succeeded) {
    if (succeeded) return;
    throw RunError({.what = "SHA-256 failed in OpenSSL",
                    .where = "libcrypto",
                    .remedy = "check the installation of OpenSSL 3 (openssl dgst -sha256 FILE)"});
}

}  // namespace

struct Sha256::Impl {
    std::unique_ptr<EVP_MD_CTX, FreeContext> context{EVP_MD_CTX_new()};
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
    require(impl_->context && EVP_DigestInit_ex(impl_->context.get(), EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

Sha256& Sha256::add(std::span<const std::byte> bytes) {
    require(EVP_DigestUpdate(impl_->context.get(), bytes.data(), bytes.size()) == 1);
    return *this;
}

Sha256& Sha256::add(std::string_view text) {
    return add(std::as_bytes(std::span(text)));
}

Digest Sha256::finish() {
    Digest digest{};
    require(EVP_DigestFinal_ex(impl_->context.get(),
                               reinterpret_cast<unsigned char*>(digest.data()), nullptr) == 1);
    return digest;
}

Digest sha256(std::span<const std::byte> bytes) {
    return Sha256().add(bytes).finish();
}

std::string to_hex(const Digest& digest) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    text.reserve(2 * digest.size());
    for (const std::byte byte : digest) {
        text += digits[std::to_integer<std::size_t>(byte >> 4)];
        text += digits[std::to_integer<std::size_t>(byte & std::byte{15})];
    }
    return text;
}

}  // namespace fedit
