// text/post_processor.cpp: what a tokenizer adds around a text, and which bytes it counts to a
// token.
#include "text/post_processor.h"

#include "text/json_checks.h"

namespace fedit {
namespace {

// Tokens on either side of a text; a file could name a long list of ids many times.
constexpr std::size_t most_around = 1024;

}  // namespace

PostProcessor PostProcessor::from_json(const Json& json) {
    PostProcessor result;
    if (!json.is_null()) result.add(json);
    return result;
}

void PostProcessor::add(const Json& json) {
    const std::string& type = json["type"].as_string();
    if (type == "Sequence") {
        const Json parts = json["processors"];
        for (std::size_t i = 0; i < parts.size(); ++i) add(parts[i]);
    } else if (type == "TemplateProcessing") {
        add_template(json);
    } else if (type == "ByteLevel") {
        const bool own_space = json["add_prefix_space"].as_bool();
        if (json["trim_offsets"].as_bool()) {
            begins = own_space ? Begins::behind_space_but_first : Begins::behind_space;
        }
    } else {
        refuse(json["type"],
               "supported post_processors: null, Sequence, TemplateProcessing, ByteLevel");
    }
}

void PostProcessor::add_template(const Json& json) {
    const Json single = json["single"];
    std::vector<std::int32_t> front, back;
    bool text_seen = false;
    for (std::size_t i = 0; i < single.size(); ++i) {
        const Json piece = single[i];
        if (piece.has("Sequence")) {
            if (text_seen || piece["Sequence"]["id"].as_string() != "A") {
                refuse(piece, "supported: the sequence A, once");
            }
            text_seen = true;
            continue;
        }
        const std::string& name = piece["SpecialToken"]["id"].as_string();
        const Json ids = json["special_tokens"][name]["ids"];
        std::vector<std::int32_t>& side = text_seen ? back : front;
        for (std::size_t k = 0; k < ids.size(); ++k) {
            side.push_back(static_cast<std::int32_t>(ids[k].as_int(0, max_token_id)));
            if (side.size() > most_around) refuse(single, "supported: fewer special tokens");
        }
    }
    if (!text_seen) refuse(single, "supported: a template with the sequence A");
    before.insert(before.begin(), front.begin(), front.end());
    behind.insert(behind.end(), back.begin(), back.end());
}

}  // namespace fedit
