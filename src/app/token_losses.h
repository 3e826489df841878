// app/token_losses.h: the loss of every labelled token, to compare with other programs.
#pragma once

#include <span>
#include <string>

#include "fedit/model/decoder.h"
#include "fedit/text/dataset.h"

namespace fedit {

/// One JSON object a line for each record in turn: {"losses": [...]}, the cross-entropies of its
/// labelled tokens in nats, nothing where it has none. `x`: the adapter's vector, or empty.
std::string token_losses(Decoder& decoder, Backend& backend, const EncodedRecords& records,
                         std::span<const float> x);

}  // namespace fedit
