// tests/fuzz/driver.cpp: runs a fuzz target without libFuzzer: every file of its corpus, then
// mutations of each from a fixed seed.
//   driver CORPUS MUTATIONS
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <random>
#include <vector>

#include "fedit/io/atomic_file.h"
#include "tests/fuzz/input_file.h"

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::uint8_t>;

struct Seed {
    std::string name;
    Bytes bytes;
};

std::vector<Seed> read_corpus(const fs::path& folder) {
    std::vector<Seed> corpus;
    for (const auto& entry : fs::directory_iterator(folder)) {
        const std::string text = fedit::read_text_file(entry.path());
        corpus.push_back({entry.path().filename().string(), Bytes(text.begin(), text.end())});
    }
    std::ranges::sort(corpus, {}, &Seed::name);
    return corpus;
}

/// Makes small changes: the same for every run, since the engine's numbers are fixed by the
/// standard (its distributions are not, hence the remainder).
class Mutator {
public:
    explicit Mutator(const std::vector<Seed>& corpus) : corpus_(corpus) {}

    Bytes change(Bytes bytes) {
        for (std::size_t count = 1 + below(4); count > 0; --count) change_once(bytes);
        return bytes;
    }

private:
    std::size_t below(std::size_t bound) { return bound == 0 ? 0 : engine_() % bound; }

    void change_once(Bytes& bytes) {
        constexpr std::size_t longest = 40;
        const std::size_t at = below(bytes.size() + 1);
        const std::size_t count = std::min(1 + below(longest), bytes.size() - at);
        const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
        switch (below(6)) {
            case 0:
                if (count > 0) bytes[at] ^= static_cast<std::uint8_t>(1U << below(8));
                break;
            case 1:
                if (count > 0) bytes[at] = static_cast<std::uint8_t>(engine_());
                break;
            case 2:
                bytes.erase(place, place + static_cast<std::ptrdiff_t>(count));
                break;
            case 3: {
                const Bytes copy(place, place + static_cast<std::ptrdiff_t>(count));
                bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(below(bytes.size() + 1)),
                             copy.begin(), copy.end());
                break;
            }
            case 4:
                bytes.insert(place, static_cast<std::uint8_t>("{}[]\",:09-e\0\xFF"[below(13)]));
                break;
            default: {  // a part of another file
                const Bytes& other = corpus_[below(corpus_.size())].bytes;
                const std::size_t from = below(other.size() + 1);
                const std::size_t part = std::min(1 + below(longest), other.size() - from);
                const auto begin = other.begin() + static_cast<std::ptrdiff_t>(from);
                bytes.insert(place, begin, begin + static_cast<std::ptrdiff_t>(part));
            }
        }
    }

    const std::vector<Seed>& corpus_;
    std::mt19937_64 engine_{20261124};
};

/// Whether the target passed; else says on which input it did not.
bool run(const Bytes& bytes, const std::string& name) {
    try {
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
        return true;
    } catch (const std::exception& error) {
        std::ofstream("failed_input", std::ios::binary)
            .write(reinterpret_cast<const char*>(bytes.data()),
                   static_cast<std::streamsize>(bytes.size()));
        std::fprintf(stderr, "%s: %s; the input is in %s\n", name.c_str(), error.what(),
                     (fs::current_path() / "failed_input").c_str());
        return false;
    }
}

int run_all(const fs::path& folder, std::size_t mutations) {
    const std::vector<Seed> corpus = read_corpus(folder);
    Mutator mutator(corpus);
    std::size_t count = 0;
    bool passed = !corpus.empty();
    for (const Seed& seed : corpus) {
        passed = run(seed.bytes, seed.name) && passed;
        for (std::size_t i = 1; i <= mutations && passed; ++i) {
            passed = run(mutator.change(seed.bytes), seed.name + ", mutation " + std::to_string(i));
        }
        count += mutations + 1;
    }
    std::printf("%zu inputs from %zu files of %s\n", count, corpus.size(), folder.c_str());
    return passed ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view number = argc == 3 ? argv[2] : "";
    std::size_t mutations = 0;
    const char* end = number.data() + number.size();
    if (number.empty() || std::from_chars(number.data(), end, mutations).ptr != end) {
        std::fprintf(stderr, "usage: %s CORPUS MUTATIONS\n", argv[0]);
        return 2;
    }
    try {
        return run_all(argv[1], mutations);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
