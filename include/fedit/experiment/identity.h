// experiment/identity.h: what decides the bits of a run, as text that people can compare.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fedit/experiment/config.h"
#include "fedit/tensor/backend.h"

namespace fedit {

/// Counts the changes of this program's own arithmetic that change bits although options, device
/// and libraries stay the same. 2: dropout draws 16 bits an element (2026-11-25). 3: products in
/// panels, gradients of adapters from sums over groups of rows (2026-11-26). 4: on GPUs, adapters
/// that share an input round dx once, dq and dk turn before they are rounded, bf16's SwiGLU takes
/// the fast exponential (2026-11-26). 5: on CPUs, attention sums whole vectors of weights, in
/// double, and beside bf16 products the operands of attention and adapters are bf16 too
/// (2026-11-26). 6: attention on Hopper by groups of warps, other tiles (2026-11-27).
inline constexpr int arithmetic_version = 6;

/// Ordered "name = value" entries.
class Identity {
public:
    void add(std::string name, std::string value) {
        entries_.emplace_back(std::move(name), std::move(value));
    }
    /// The options marked identity (--rounds too where the schedule spans the run), resolved.
    void add_options(const Config& config);
    /// Device model, instruction set, libraries, and arithmetic_version.
    void add_device(const DeviceInfo& device);

    std::string text() const;  ///< one entry a line
    std::string hash() const;  ///< SHA-256, hex
    static Identity parse(std::string_view text);

    /// Throws InputError, one fault a difference, if `other` (of `source`) is not the same.
    void require_same(const Identity& other, const std::string& source) const;

private:
    std::vector<std::pair<std::string, std::string>> entries_;
};

}  // namespace fedit
