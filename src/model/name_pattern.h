// model/name_pattern.h: regular expressions of module names, as adapter_config.json holds them.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace fedit {

/// A regular expression that a whole name must match (Python's re.fullmatch).
class NamePattern {
public:
    /// Throws InputError, with `where`, for an expression that is malformed.
    NamePattern(const std::string& expression, std::string where);
    ~NamePattern();
    NamePattern(NamePattern&&) noexcept;
    NamePattern& operator=(NamePattern&&) noexcept;

    /// Throws InputError if the expression takes too long to decide.
    bool matches(std::string_view name) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fedit
