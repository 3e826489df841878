// text/encoded_records.cpp: records to token ids and labels.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>

#include "fedit/core/error.h"
#include "fedit/io/sha256.h"
#include "fedit/text/dataset.h"
#include "text/fault_list.h"

namespace fedit {
namespace {

// Fingerprints are bytes of the arrays as they lie in memory.
static_assert(std::endian::native == std::endian::little);

struct Sequence {
    std::vector<std::int32_t> tokens, labels;
};

Sequence encode_text(const Record& record, const Tokenizer& tokenizer, const PromptTemplate& prompt,
                     const EncodeOptions& options) {
    const std::string before =
        record.is_plain_text ? "" : prompt.prompt(record.instruction, record.input);
    Encoding encoding = tokenizer.encode(before + record.response, SpecialTokens::add);
    const auto cutoff = static_cast<std::size_t>(options.cutoff_len);
    Sequence result{std::move(encoding.ids), {}};
    result.tokens.resize(std::min(result.tokens.size(), cutoff));
    result.labels = result.tokens;
    for (std::size_t t = 0; t < result.labels.size(); ++t) {
        const bool is_prompt = encoding.begins[t] < before.size();
        if (is_prompt && !options.train_on_inputs) result.labels[t] = -1;
    }
    const std::optional<std::int32_t> eos = tokenizer.eos();
    const bool ended = eos && !result.tokens.empty() && result.tokens.back() == *eos;
    if (eos && !ended && result.tokens.size() < cutoff) {
        result.tokens.push_back(*eos);
        result.labels.push_back(*eos);
    }
    return result;
}

Sequence cut_tokens(const Record& record, const EncodeOptions& options) {
    Sequence result{record.input_ids, record.labels};
    const auto length =
        std::min(result.tokens.size(), static_cast<std::size_t>(options.cutoff_len));
    result.tokens.resize(length);
    result.labels.resize(length, -1);
    return result;
}

void check_ids(const Sequence& sequence, std::int64_t vocab_size, std::size_t record,
               FaultList& faults) {
    const auto check = [&](const std::vector<std::int32_t>& ids, std::int32_t min,
                           std::string_view name) {
        for (std::size_t t = 0; t < ids.size(); ++t) {
            if (ids[t] >= min && ids[t] < vocab_size) continue;
            faults.add({.what = fmt::format("{} {} is outside the model's vocabulary of {}", name,
                                            ids[t], vocab_size),
                        .where = fmt::format("record {} (the first is 0), token {}", record, t),
                        .remedy = "use the tokenizer that belongs to the model"});
            return;  // one fault a record is enough
        }
    };
    check(sequence.tokens, 0, "token id");
    check(sequence.labels, -1, "label");
}

void append(EncodedRecords& all, const Sequence& sequence) {
    all.tokens.insert(all.tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
    all.labels.insert(all.labels.end(), sequence.labels.begin(), sequence.labels.end());
    all.begin.push_back(static_cast<std::int64_t>(all.tokens.size()));
    // Nothing stands before a record's first token that could predict it.
    if (!sequence.labels.empty()) all.labels[all.begin[all.size() - 1]] = -1;
    const auto first = all.labels.begin() + all.begin[all.size() - 1];
    all.targets.push_back(std::count_if(first, all.labels.end(), [](int l) { return l >= 0; }));
}

std::int32_t category_index(std::vector<std::string>& categories, const std::string& name) {
    const auto found = std::find(categories.begin(), categories.end(), name);
    const auto index = static_cast<std::int32_t>(found - categories.begin());
    if (found == categories.end()) categories.push_back(name);
    return index;
}

}  // namespace

std::int64_t EncodedRecords::records_with_target() const {
    return std::count_if(targets.begin(), targets.end(), [](std::int64_t n) { return n > 0; });
}

std::int64_t EncodedRecords::longest() const {
    std::int64_t result = 0;
    for (std::int64_t record = 0; record < size(); ++record) {
        result = std::max(result, length(record));
    }
    return result;
}

EncodedRecords encode_records(std::span<const Record> records, const Tokenizer* tokenizer,
                              const PromptTemplate& prompt, const EncodeOptions& options,
                              std::int64_t vocab_size) {
    if (options.cutoff_len < 1) {
        throw InputError({.what = fmt::format("a cutoff of {} tokens leaves nothing of a record",
                                              options.cutoff_len),
                          .where = "option cutoff-len",
                          .remedy = "give at least 1; 512 is usual"});
    }
    EncodedRecords all;
    FaultList faults;
    for (std::size_t i = 0; i < records.size(); ++i) {
        const Record& record = records[i];
        if (!record.tokenised() && tokenizer == nullptr) {
            faults.add({.what = "the record is text, but there is no tokenizer",
                        .where = fmt::format("record {} (the first is 0)", i),
                        .remedy = "give a tokenizer, or records with input_ids and labels"});
            continue;
        }
        const Sequence sequence = record.tokenised()
                                      ? cut_tokens(record, options)
                                      : encode_text(record, *tokenizer, prompt, options);
        check_ids(sequence, vocab_size, i, faults);
        append(all, sequence);
        all.category.push_back(category_index(all.categories, record.category));
    }
    faults.throw_if_any("records");
    return all;
}

EncodedRecords select(const EncodedRecords& all, std::span<const std::int64_t> which) {
    EncodedRecords result;
    result.categories = all.categories;
    for (const std::int64_t record : which) {
        if (record < 0 || record >= all.size()) {
            throw RunError({.what = fmt::format("record {} was selected", record),
                            .where = fmt::format("a set of {} records", all.size()),
                            .remedy = "select records of the set"});
        }
        const std::int64_t first = all.begin[record], last = all.begin[record + 1];
        result.tokens.insert(result.tokens.end(), all.tokens.begin() + first,
                             all.tokens.begin() + last);
        result.labels.insert(result.labels.end(), all.labels.begin() + first,
                             all.labels.begin() + last);
        result.begin.push_back(static_cast<std::int64_t>(result.tokens.size()));
        result.targets.push_back(all.targets[record]);
        result.category.push_back(all.category[record]);
    }
    return result;
}

std::string fingerprint(const EncodedRecords& records) {
    Sha256 hash;
    const auto add = [&](std::span<const std::byte> bytes) {
        hash.add(fmt::format("{}:", bytes.size())).add(bytes);
    };
    add(std::as_bytes(std::span(records.tokens)));
    add(std::as_bytes(std::span(records.labels)));
    add(std::as_bytes(std::span(records.begin)));
    add(std::as_bytes(std::span(records.category)));
    for (const std::string& name : records.categories) add(std::as_bytes(std::span(name)));
    return to_hex(hash.finish());
}

}  // namespace fedit
