// core/build_info.h: what this binary was built from, for logs and run files.
#pragma once

#include <string_view>

namespace fedit {

struct BuildInfo {
    std::string_view version;     ///< "0.1.0"
    std::string_view git_commit;  ///< 40 hex digits, or "unknown"
    bool git_dirty;
    std::string_view compiler;
    std::string_view build_type;
};

BuildInfo build_info();

}  // namespace fedit
