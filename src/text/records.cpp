// text/records.cpp: instruction records from a JSON array or from JSON lines.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "fedit/core/error.h"
#include "fedit/io/atomic_file.h"
#include "fedit/io/json.h"
#include "fedit/text/dataset.h"
#include "text/fault_list.h"

namespace fedit {
namespace {

constexpr std::int64_t max_token = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t no_label = -100;  // as PyTorch and Transformers write it

// Reads one record, collecting its faults; `where` is "FILE, line 3".
class RecordReader {
public:
    RecordReader(const Json& json, std::string where, FaultList& faults)
        : json_(json), where_(std::move(where)), faults_(faults) {}

    Record read() {
        Record record;
        if (!json_.is_object()) {
            fault("", "a record must be a JSON object, found " + json_.excerpt(), "give an object");
            return record;
        }
        record.category = text("category").value_or("");
        if (json_.has("input_ids")) {
            read_tokens(record);
        } else if (json_.has("text")) {
            read_plain_text(record);
        } else {
            read_texts(record);
        }
        return record;
    }

private:
    void fault(std::string_view field, std::string what, std::string remedy) {
        faults_.add({.what = std::move(what),
                     .where = field.empty() ? where_ : fmt::format("{}, field {}", where_, field),
                     .remedy = std::move(remedy)});
    }

    // The string `field`; nothing if it is absent or null, or, with a fault, anything else.
    std::optional<std::string> text(const char* field) {
        if (!json_.has(field)) return std::nullopt;
        const Json value = json_[field];
        if (value.is_string()) return value.as_string();
        fault(field, value.excerpt() + " is not text", "give a string");
        return std::nullopt;
    }

    bool has_any(const char* name, const char* other) {
        return json_.has(name) || json_.has(other);
    }

    // The string that goes by either of two names; both may be there if they say the same.
    std::string either(const char* name, const char* other) {
        const std::optional<std::string> first = text(name), second = text(other);
        if (first && second && *first != *second) {
            fault(other, fmt::format("differs from field {}, which means the same", name),
                  fmt::format("keep {} or {}", name, other));
        }
        return first ? *first : second.value_or("");
    }

    void read_texts(Record& record) {
        if (!json_.has("instruction")) {
            fault("instruction", "the record has no instruction",
                  "give instruction, perhaps input or context, and response or output");
        }
        record.instruction = text("instruction").value_or("");
        record.input = either("input", "context");
        if (json_.has("choices")) read_choices(record);
        if (has_any("output", "response")) {
            record.response = either("output", "response");
        } else if (!record.choices.empty()) {
            record.response = record.choices[record.answer];
        } else if (!json_.has("choices")) {
            fault("response", "the record has no response", "give response or output");
        }
    }

    void read_choices(Record& record) {
        const Json list = json_["choices"];
        bool texts = list.is_array() && list.size() >= 2;
        for (std::size_t i = 0; texts && i < list.size(); ++i) texts = list[i].is_string();
        if (!texts) {
            fault("choices", list.excerpt() + " is no list of at least two texts",
                  "give the possible responses, or no field choices");
            return;
        }
        std::vector<std::string> choices;
        for (std::size_t i = 0; i < list.size(); ++i) choices.push_back(list[i].as_string());
        const std::optional<std::size_t> answer = read_answer(choices);
        if (!answer) return;
        record.choices = std::move(choices);
        record.answer = *answer;
    }

    std::optional<std::size_t> read_answer(const std::vector<std::string>& choices) {
        const std::string remedy = fmt::format(
            "give the right choice's index, from 0 to {}, or its text", choices.size() - 1);
        if (!json_.has("answer")) {
            fault("answer", "the record has choices, but no answer", remedy);
            return std::nullopt;
        }
        const Json answer = json_["answer"];
        std::size_t index = choices.size();
        if (answer.is_integer() && answer.as_int() >= 0) {
            index = static_cast<std::size_t>(answer.as_int());
        } else if (answer.is_string()) {
            const auto found = std::find(choices.begin(), choices.end(), answer.as_string());
            index = static_cast<std::size_t>(found - choices.begin());
        }
        if (index < choices.size()) return index;
        fault("answer", answer.excerpt() + " is none of the choices", remedy);
        return std::nullopt;
    }

    void read_plain_text(Record& record) {
        for (const char* field : {"instruction", "input", "context", "response", "output"}) {
            if (json_.has(field)) {
                fault(field, "stands beside text, which is a whole record",
                      "give text alone, or instruction and response");
            }
        }
        record.response = text("text").value_or("");
        record.is_plain_text = true;
    }

    // The integers of an array, each in [0, max_token] or `also`; nothing, and a fault, otherwise.
    std::optional<std::vector<std::int32_t>> integers(const char* field, const char* wanted,
                                                      std::optional<std::int64_t> also) {
        const Json array = json_[field];
        if (!array.is_array()) {
            fault(field, array.excerpt() + " is not an array", wanted);
            return std::nullopt;
        }
        std::vector<std::int32_t> values(array.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
            const Json element = array[i];
            const std::int64_t value = element.is_integer() ? element.as_int() : -1;
            if (also && value == *also) {
                values[i] = -1;
            } else if (value >= 0 && value <= max_token) {
                values[i] = static_cast<std::int32_t>(value);
            } else {
                fault(fmt::format("{}[{}]", field, i), element.excerpt() + " is no token id",
                      wanted);
                return std::nullopt;
            }
        }
        return values;
    }

    void read_tokens(Record& record) {
        const auto ids = integers("input_ids", "give token ids from 0", std::nullopt);
        if (!ids) return;
        if (ids->empty()) {
            fault("input_ids", "the record has no tokens", "give at least one token id");
            return;
        }
        record.input_ids = *ids;
        if (json_.has("labels") == json_.has("first_label")) {
            fault("labels",
                  json_.has("labels") ? "labels and first_label exclude each other"
                                      : "the record has input_ids, but no labels",
                  "give labels (-100: none) or first_label");
            return;
        }
        if (json_.has("labels")) {
            read_labels(record);
        } else {
            read_first_label(record);
        }
    }

    void read_labels(Record& record) {
        auto labels = integers("labels", "give token ids from 0, or -100 for none", no_label);
        if (!labels) return;
        if (labels->size() != record.input_ids.size()) {
            fault(
                "labels",
                fmt::format("{} labels for {} input_ids", labels->size(), record.input_ids.size()),
                "give one label a token");
            return;
        }
        record.labels = std::move(*labels);
    }

    void read_first_label(Record& record) {
        const Json field = json_["first_label"];
        const auto length = static_cast<std::int64_t>(record.input_ids.size());
        const std::int64_t first = field.is_integer() ? field.as_int() : -1;
        if (first < 0 || first > length) {
            fault("first_label", field.excerpt() + " is no place in the record",
                  fmt::format("give an integer from 0 to {} (no label)", length));
            return;
        }
        record.labels = record.input_ids;
        std::fill_n(record.labels.begin(), first, -1);
    }

    const Json& json_;
    std::string where_;
    FaultList& faults_;
};

std::vector<Record> read_array(std::string_view text, const std::string& source,
                               FaultList& faults) {
    std::vector<Record> records;
    const Json array = Json::parse(text, source);
    for (std::size_t i = 0; i < array.size(); ++i) {
        const std::string where = fmt::format("{}, element {} (the first is 0)", source, i);
        records.push_back(RecordReader(array[i], where, faults).read());
    }
    return records;
}

std::vector<Record> read_lines(std::string_view text, const std::string& source,
                               FaultList& faults) {
    std::vector<Record> records;
    for (std::size_t number = 1; !text.empty(); ++number) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        const std::string where = fmt::format("{}, line {}", source, number);
        try {
            records.push_back(RecordReader(Json::parse(line, where), where, faults).read());
        } catch (const InputError& error) {
            faults.add(error);
        }
    }
    return records;
}

}  // namespace

std::vector<Record> read_records(const std::filesystem::path& path, NoRecords none) {
    const std::string file = read_text_file(path);
    std::string_view text = file;
    constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
    if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());

    FaultList faults;
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    const bool is_array = first != std::string_view::npos && text[first] == '[';
    std::vector<Record> records = is_array ? read_array(text, path.string(), faults)
                                           : read_lines(text, path.string(), faults);
    faults.throw_if_any(path.string());
    if (records.empty() && !(is_array && none == NoRecords::fine_in_array)) {
        throw InputError({.what = "there are no records",
                          .where = path.string(),
                          .remedy = "give a JSON array of records, or one record a line"});
    }
    return records;
}

}  // namespace fedit
