// tests/comm/message_test.cpp: values written to a message come back; short ones are errors.
#include "fedit/comm/message.h"

#include <gtest/gtest.h>

#include "fedit/core/error.h"

namespace fedit {
namespace {

TEST(Message, ReturnsWhatWasPutInTheSameOrder) {
    const std::vector<double> numbers{1.5, -2.0, 0.0};
    const Bytes bytes = ByteWriter()
                            .put(std::int32_t{-7})
                            .put("text")
                            .put(std::string("with\0zero", 9))
                            .put_all(std::span(numbers))
                            .put(true)
                            .take();
    ByteReader reader(bytes);
    EXPECT_EQ(reader.get<std::int32_t>(), -7);
    EXPECT_EQ(reader.get_text(), "text");
    EXPECT_EQ(reader.get_text(), std::string("with\0zero", 9));
    EXPECT_EQ(reader.get_all<double>(), numbers);
    EXPECT_FALSE(reader.done());
    EXPECT_TRUE(reader.get<bool>());
    EXPECT_TRUE(reader.done());
}

TEST(Message, HoldsEmptyTextsAndLists) {
    const Bytes bytes = ByteWriter().put("").put_all(std::span<const float>()).take();
    ByteReader reader(bytes);
    EXPECT_EQ(reader.get_text(), "");
    EXPECT_TRUE(reader.get_all<float>().empty());
    EXPECT_TRUE(reader.done());
}

TEST(Message, CutAnywhereIsAnErrorNotAWrongValue) {
    const std::vector<std::uint16_t> numbers{1, 2, 3};
    const Bytes whole =
        ByteWriter().put(std::int64_t{1}).put("abc").put_all(std::span(numbers)).take();
    for (std::size_t size = 0; size < whole.size(); ++size) {
        ByteReader reader(std::span<const std::byte>(whole).first(size));
        const auto read_all = [&] {
            reader.get<std::int64_t>();
            reader.get_text();
            reader.get_all<std::uint16_t>();
        };
        EXPECT_THROW(read_all(), RunError) << "cut to " << size << " bytes";
    }
}

TEST(Message, AnAbsurdCountIsRefusedBeforeMemoryIsTaken) {
    const Bytes bytes = ByteWriter().put(~std::uint64_t{0} / 4 + 2).put(1.0).take();
    EXPECT_THROW(ByteReader(bytes).get_all<double>(), RunError);
    EXPECT_THROW(ByteReader(bytes).get_text(), RunError);
}

}  // namespace
}  // namespace fedit
