// app/tokenize.cpp: `fedit tokenize`: token ids of texts, one JSON string a line.
#include <fmt/format.h>

#include "app/commands.h"
#include "app/json_lines.h"
#include "fedit/text/tokenizer.h"

namespace fedit {
namespace {

/// Each token of a text on a line of its own: id, the byte it begins at, what it decodes to.
std::string readable(const Tokenizer& tokenizer, const std::string& text,
                     const Encoding& encoding) {
    std::string out = fmt::format("{:?}: {} tokens\n", text, encoding.ids.size());
    for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
        const std::int32_t id = encoding.ids[i];
        out += fmt::format("{:>8}  byte {:<6} {:?}\n", id, encoding.begins[i],
                           tokenizer.decode(std::span(&id, 1)));
    }
    return out;
}

}  // namespace

ExitCode run_tokenize(const Context& context, const Config& config) {
    context.comm.together("tokenize", [&] {
        if (context.comm.rank() != 0) return;
        const Tokenizer tokenizer = Tokenizer::load(config.tokenizer);
        const SpecialTokens special =
            config.no_special_tokens ? SpecialTokens::none : SpecialTokens::add;
        std::string out;
        read_json_lines(config.input, "texts", [&](const Json& line) {
            const Encoding encoding = tokenizer.encode(line.as_string(), special);
            out += config.output_format == "json"
                       ? JsonWriter().set("ids", encoding.ids).text() + '\n'
                       : readable(tokenizer, line.as_string(), encoding);
        });
        print_result(context.comm, out);
    });
    return ExitCode::done;
}

}  // namespace fedit
