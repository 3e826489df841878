// app/tokenize.cpp: `fedit tokenize`: token ids of texts, one JSON string a line.
#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <vector>

#include "app/commands.h"
#include "fedit/core/error.h"
#include "fedit/io/json.h"
#include "fedit/text/tokenizer.h"

namespace fedit {
namespace {

constexpr std::size_t most_faults = 20;

std::vector<std::string> read_texts(std::istream& in, const std::string& source) {
    std::vector<std::string> texts;
    std::vector<Fault> faults;
    std::string line;
    for (std::size_t number = 1; std::getline(in, line); ++number) {
        try {
            texts.push_back(
                Json::parse(line, fmt::format("{}, line {}", source, number)).as_string());
        } catch (const InputError& error) {
            faults.insert(faults.end(), error.faults().begin(), error.faults().end());
            if (faults.size() >= most_faults) break;
        }
    }
    if (in.bad()) {
        throw RunError({.what = "cannot read the texts to their end",
                        .where = source,
                        .remedy = "check the disk or the program that writes the pipe"});
    }
    if (!faults.empty()) throw InputError(std::move(faults));
    return texts;
}

std::vector<std::string> read_input(const std::string& path) {
    if (path == "-") return read_texts(std::cin, "standard input");
    std::ifstream in(path);
    if (!in) {
        throw InputError({.what = "cannot open the file of texts",
                          .where = path,
                          .remedy = "give --input a readable file with one JSON string a line, or "
                                    "- for standard input"});
    }
    return read_texts(in, path);
}

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
        for (const std::string& text : read_input(config.input)) {
            const Encoding encoding = tokenizer.encode(text, special);
            out += config.output_format == "json"
                       ? JsonWriter().set("ids", encoding.ids).text() + '\n'
                       : readable(tokenizer, text, encoding);
        }
        print_result(context.comm, out);
    });
    return ExitCode::done;
}

}  // namespace fedit
