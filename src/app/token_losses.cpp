// app/token_losses.cpp: the loss of every labelled token, one record a pass.
#include "app/token_losses.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "fedit/train/batch.h"

namespace fedit {

std::string token_losses(Decoder& decoder, Backend& backend, const EncodedRecords& records,
                         std::span<const float> x) {
    DeviceBuffer adapter(backend, x.size_bytes());
    backend.upload(adapter.data(), std::as_bytes(x));
    std::vector<AdapterSlot> slots;
    if (!x.empty()) slots.push_back({.x = adapter.floats()});
    decoder.load(adapter.floats());
    std::string text;
    std::vector<double> loss;
    for (std::int64_t record = 0; record < records.size(); ++record) {
        const PackedBatch batch = pack(records, {&record, 1}, 0, 1);
        loss.resize(batch.targets.size());
        decoder.evaluate(batch, slots, loss);
        text += fmt::format("{{\"losses\": [{}]}}\n", fmt::join(loss, ", "));
    }
    return text;
}

}  // namespace fedit
