// tensor/tensor.cpp: names of element types.
#include "fedit/tensor/tensor.h"

namespace fedit {

std::string_view to_string(Dtype dtype) {
    return dtype == Dtype::fp32 ? "fp32" : "bf16";
}

}  // namespace fedit
