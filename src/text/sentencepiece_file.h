// text/sentencepiece_file.h: what a SentencePiece model file says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fedit {

/// The parts of sentencepiece_model.proto that decide how a BPE model encodes.
struct SentencePieceFile {
    enum class Type {
        normal = 1,
        unknown = 2,
        control = 3,
        user_defined = 4,
        unused = 5,
        byte = 6
    };
    struct Piece {
        std::string text;
        float score = 0;
        Type type = Type::normal;
    };
    std::vector<Piece> pieces;  ///< the id of each is its place
    bool byte_fallback = false;
    bool add_dummy_prefix = true;
    std::string bos_piece = "<s>", eos_piece = "</s>";

    /// Throws InputError, all faults at once: for a file that is damaged, a model that is not BPE,
    /// a setting that changes the result and is not honoured, and pieces that cannot be.
    static SentencePieceFile parse(const std::string& bytes, const std::string& path);
};

}  // namespace fedit
