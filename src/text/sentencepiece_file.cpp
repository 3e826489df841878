// text/sentencepiece_file.cpp: reads a SentencePiece model file, field by field.
#include "text/sentencepiece_file.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <string_view>

#include "fedit/core/error.h"
#include "text/fault_list.h"
#include "text/json_checks.h"
#include "text/protobuf.h"
#include "text/utf8.h"

namespace fedit {
namespace {

using Piece = SentencePieceFile::Piece;
using Type = SentencePieceFile::Type;

// Settings that no field of the result holds. Defaults are those of sentencepiece_model.proto.
struct Settings {
    std::int64_t model_type = 1;
    bool whitespace_as_suffix = false;
    std::string rule = "nmt_nfkc";
    bool has_rule_table = false;
    bool remove_extra_whitespaces = true;
    bool escape_whitespaces = true;
    bool has_denormalizer = false;
};

class Parser {
public:
    Parser(const std::string& bytes, const std::string& path) : bytes_(bytes), path_(path) {}
    SentencePieceFile run();

private:
    ProtobufReader open(const ProtobufField& field, std::string_view name) const {
        const std::string_view inside = field.as_bytes(path_, name);
        return {inside, static_cast<std::size_t>(inside.data() - bytes_.data()), path_};
    }
    void read_piece(const ProtobufField& field);
    void read_trainer(const ProtobufField& field);
    void read_normalizer(const ProtobufField& field);
    void check_settings();
    void check_piece(std::size_t id, std::set<std::string_view>& seen);
    void check_pieces();
    void fault(std::string what, std::string field, std::string remedy) {
        faults_.add({.what = std::move(what),
                     .where = path_ + ", field " + field,
                     .remedy = std::move(remedy)});
    }

    const std::string& bytes_;
    const std::string& path_;
    SentencePieceFile file_;
    Settings settings_;
    FaultList faults_;
};

void Parser::read_piece(const ProtobufField& field) {
    ProtobufReader reader = open(field, "pieces");
    Piece piece;
    while (const auto part = reader.next()) {
        if (part->number == 1) piece.text = part->as_bytes(path_, "pieces.piece");
        if (part->number == 2) piece.score = part->as_float(path_, "pieces.score");
        if (part->number != 3) continue;
        const std::int64_t type = part->as_int(path_, "pieces.type");
        if (type < 1 || type > 6) {
            fault(fmt::format("there is no piece type {}", type),
                  fmt::format("pieces[{}].type", file_.pieces.size()), "supported: 1 to 6");
            continue;
        }
        piece.type = static_cast<Type>(type);
    }
    file_.pieces.push_back(std::move(piece));
}

void Parser::read_trainer(const ProtobufField& field) {
    ProtobufReader reader = open(field, "trainer_spec");
    while (const auto part = reader.next()) {
        switch (part->number) {
            case 3:
                settings_.model_type = part->as_int(path_, "trainer_spec.model_type");
                break;
            case 24:
                settings_.whitespace_as_suffix =
                    part->as_bool(path_, "trainer_spec.treat_whitespace_as_suffix");
                break;
            case 35:
                file_.byte_fallback = part->as_bool(path_, "trainer_spec.byte_fallback");
                break;
            case 46:
                file_.bos_piece = part->as_bytes(path_, "trainer_spec.bos_piece");
                break;
            case 47:
                file_.eos_piece = part->as_bytes(path_, "trainer_spec.eos_piece");
                break;
            default:
                break;  // how it was trained
        }
    }
}

void Parser::read_normalizer(const ProtobufField& field) {
    ProtobufReader reader = open(field, "normalizer_spec");
    while (const auto part = reader.next()) {
        switch (part->number) {
            case 1:
                settings_.rule = part->as_bytes(path_, "normalizer_spec.name");
                break;
            case 2:
                settings_.has_rule_table =
                    !part->as_bytes(path_, "normalizer_spec.precompiled_charsmap").empty();
                break;
            case 3:
                file_.add_dummy_prefix = part->as_bool(path_, "normalizer_spec.add_dummy_prefix");
                break;
            case 4:
                settings_.remove_extra_whitespaces =
                    part->as_bool(path_, "normalizer_spec.remove_extra_whitespaces");
                break;
            case 5:
                settings_.escape_whitespaces =
                    part->as_bool(path_, "normalizer_spec.escape_whitespaces");
                break;
            default:
                break;  // the rules as text, which the compiled table repeats
        }
    }
}

void Parser::check_settings() {
    constexpr std::int64_t bpe = 2;
    if (settings_.model_type != bpe) {
        const char* name = settings_.model_type == 1   ? " (unigram)"
                           : settings_.model_type == 3 ? " (word)"
                           : settings_.model_type == 4 ? " (char)"
                                                       : "";
        fault(fmt::format("model type {}{} is not supported", settings_.model_type, name),
              "trainer_spec.model_type", "supported: 2 (BPE)");
    }
    if (settings_.whitespace_as_suffix) {
        fault("true is not supported", "trainer_spec.treat_whitespace_as_suffix",
              "supported: false");
    }
    if (settings_.has_rule_table) {
        fault(fmt::format("the normalisation rules {:?} are not supported", settings_.rule),
              "normalizer_spec.precompiled_charsmap",
              "supported: an empty table (identity); or give a tokenizer.json");
    }
    if (settings_.remove_extra_whitespaces) {
        fault("true is not supported", "normalizer_spec.remove_extra_whitespaces",
              "supported: false; or give a tokenizer.json");
    }
    if (!settings_.escape_whitespaces) {
        fault("false is not supported", "normalizer_spec.escape_whitespaces", "supported: true");
    }
    if (settings_.has_denormalizer) {
        fault("a table for decoding is not supported", "denormalizer_spec.precompiled_charsmap",
              "supported: none");
    }
}

void Parser::check_piece(std::size_t id, std::set<std::string_view>& seen) {
    constexpr std::size_t longest = 512;
    const Piece& piece = file_.pieces[id];
    const std::string field = fmt::format("pieces[{}]", id);
    if (piece.text.empty()) {
        fault("the piece is empty", field + ".piece", "give every piece a text");
    } else if (first_invalid_utf8(piece.text) != piece.text.size()) {
        fault("the piece is not valid UTF-8", field + ".piece", "give UTF-8");
    } else if (!seen.insert(piece.text).second) {
        fault(fmt::format("the piece {:?} is there twice", piece.text), field + ".piece",
              "give every piece once");
    } else if (piece.type == Type::normal && piece.text.size() > longest) {
        fault(fmt::format("a piece of {} bytes is too long", piece.text.size()), field + ".piece",
              fmt::format("at most {} bytes", longest));
    }
    if (!std::isfinite(piece.score)) {
        fault(fmt::format("the score {} is no number to sort by", piece.score), field + ".score",
              "give finite scores");
    }
    if (piece.type == Type::unused) {
        fault("type 5 (unused) is not supported", field + ".type", "supported: 1 to 4, and 6");
    }
}

void Parser::check_pieces() {
    if (file_.pieces.empty()) fault("there are no pieces", "pieces", "give a SentencePiece model");
    std::set<std::string_view> seen;
    std::size_t unknown = 0;
    for (std::size_t id = 0; id < file_.pieces.size(); ++id) {
        check_piece(id, seen);
        if (file_.pieces[id].type == Type::unknown) ++unknown;
    }
    if (unknown != 1) {
        fault(fmt::format("{} pieces have the type 2 (unknown)", unknown), "pieces",
              "give exactly one");
    }
    if (!file_.byte_fallback) return;
    for (int byte = 0; byte < 256; ++byte) {
        const std::string name = fmt::format("<0x{:02X}>", byte);
        if (!seen.contains(name)) {
            fault(fmt::format("byte_fallback is set, but there is no piece {}", name), "pieces",
                  "give all 256 byte pieces");
        }
    }
}

SentencePieceFile Parser::run() {
    ProtobufReader reader(bytes_, 0, path_);
    while (const auto field = reader.next()) {
        if (field->number == 1) {
            if (file_.pieces.size() > max_token_id) {
                fault(fmt::format("there are more than {} pieces", max_token_id), "pieces",
                      "give a SentencePiece model");
                break;
            }
            read_piece(*field);
        } else if (field->number == 2) {
            read_trainer(*field);
        } else if (field->number == 3) {
            read_normalizer(*field);
        } else if (field->number == 5) {
            ProtobufReader denormalizer = open(*field, "denormalizer_spec");
            while (const auto part = denormalizer.next()) {
                if (part->number != 2) continue;
                settings_.has_denormalizer =
                    !part->as_bytes(path_, "denormalizer_spec.precompiled_charsmap").empty();
            }
        }
    }
    check_settings();
    check_pieces();
    faults_.throw_if_any(path_);
    return std::move(file_);
}

}  // namespace

SentencePieceFile SentencePieceFile::parse(const std::string& bytes, const std::string& path) {
    return Parser(bytes, path).run();
}

}  // namespace fedit
