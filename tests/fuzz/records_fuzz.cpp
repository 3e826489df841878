// tests/fuzz/records_fuzz.cpp: records as a JSON array or JSON lines; what is read is encoded too.
#include <algorithm>

#include "fedit/text/dataset.h"
#include "tests/fuzz/input_file.h"

namespace {

using fedit::fuzz::require;

constexpr fedit::EncodeOptions options{.cutoff_len = 64};

void check(const fedit::Record& record) {
    require(record.input_ids.size() == record.labels.size(), "a label for each token");
    require(record.choices.empty() || record.answer < record.choices.size(),
            "the answer is one of the choices");
    require(!record.tokenised() || record.instruction.empty(), "tokens come without text");
}

void check(const fedit::EncodedRecords& all, std::size_t records, std::int64_t vocab_size) {
    require(static_cast<std::size_t>(all.size()) == records, "every record is encoded");
    require(all.longest() <= options.cutoff_len, "no record is longer than the cutoff");
    require(all.tokens.size() == all.labels.size(), "a label for each token");
    for (const std::int32_t token : all.tokens) {
        require(token >= 0 && token < vocab_size, "tokens are in the vocabulary");
    }
    for (const std::int32_t label : all.labels) {
        require(label >= -1 && label < vocab_size, "labels are in the vocabulary");
    }
    for (const std::int32_t category : all.category) {
        require(static_cast<std::size_t>(category) < all.categories.size(),
                "categories have names");
    }
    std::vector<std::int64_t> which{all.size() - 1, 0};
    (void)fingerprint(select(all, which));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fedit::fuzz;
    static const InputFolder folder;
    static const fedit::Tokenizer tokenizer = fedit::Tokenizer::load(FEDIT_TINY_MODEL);
    static const fedit::PromptTemplate prompt = fedit::PromptTemplate::built_in();
    return judge([&] {
        const auto path = folder.write("records.json", text_of(data, size));
        const std::vector<fedit::Record> records = fedit::read_records(path);
        require(!records.empty(), "a file without records is refused");
        for (const fedit::Record& record : records) check(record);
        const std::int64_t vocab_size = tokenizer.vocab_size();
        check(encode_records(records, &tokenizer, prompt, options, vocab_size), records.size(),
              vocab_size);
    });
}
