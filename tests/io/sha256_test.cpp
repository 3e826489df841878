// tests/io/sha256_test.cpp: the answers of FIPS 180-4's examples.
#include "fedit/io/sha256.h"

#include <gtest/gtest.h>

namespace fedit {
namespace {

std::string hash(std::string_view text) {
    return to_hex(Sha256().add(text).finish());
}

TEST(Sha256, GivesThePublishedAnswers) {
    EXPECT_EQ(hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(hash(std::string(1'000'000, 'a')),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, DoesNotDependOnHowTheTextIsCut) {
    EXPECT_EQ(to_hex(Sha256().add("a").add("").add("bc").finish()), hash("abc"));
    const std::string_view text = "abc";
    EXPECT_EQ(to_hex(sha256(std::as_bytes(std::span(text)))), hash("abc"));
}

}  // namespace
}  // namespace fedit
