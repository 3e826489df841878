// tests/model/loaded_model.h: a model folder made ready for a decoder, and packed batches of
// fixtures.
#pragma once

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "fedit/io/safetensors.h"
#include "fedit/model/decoder.h"
#include "fedit/model/hf_folder.h"
#include "fedit/model/weights.h"

namespace fedit::test {

/// A folder, its weights packed for a back end (the CPU's unless another is given), and the memory
/// that holds them.
struct LoadedModel {
    explicit LoadedModel(const std::filesystem::path& path, int threads = 1)
        : LoadedModel(path, make_cpu_backend(threads)) {}
    LoadedModel(const std::filesystem::path& path, std::unique_ptr<Backend> compute,
                Dtype products = Dtype::fp32)
        : folder(path),
          backend(std::move(compute)),
          plan(folder.config(), *backend, products),
          memory(*backend, plan.bytes()) {
        plan.fill({memory.data(), memory.bytes()}, folder, *backend);
        weights = plan.view({memory.data(), memory.bytes()});
    }
    const ModelConfig& config() const { return folder.config(); }

    HfFolder folder;
    std::unique_ptr<Backend> backend;
    WeightPlan plan;
    DeviceBuffer memory;
    Weights weights;
};

/// Appends a sequence to a batch of one slot; its rows from `first_target` on predict the next
/// token.
inline void append_sequence(PackedBatch& batch, const std::vector<std::int32_t>& tokens,
                            std::size_t first_target) {
    const std::int64_t first = batch.rows();
    for (std::size_t t = 0; t < tokens.size(); ++t) {
        const std::int64_t row = first + static_cast<std::int64_t>(t);
        batch.tokens.push_back(tokens[t]);
        batch.positions.push_back(static_cast<std::int32_t>(t));
        batch.row_counter.push_back(row);
        if (t >= first_target && t + 1 < tokens.size()) {
            batch.target_rows.push_back(row);
            batch.targets.push_back(tokens[t + 1]);
        }
    }
    batch.sequence_begin.push_back(batch.rows());
    batch.slot_begin = {0, batch.rows()};
    batch.target_weight.assign(batch.targets.size(),
                               1.0F / static_cast<float>(batch.targets.size()));
}

/// The packed sequences that a fixture stores as `prefix` + input_ids, labels, cu_seqlens. A label
/// at t is the target of t - 1; the labels of these fixtures are the tokens themselves.
inline PackedBatch fixture_batch(const SafetensorsFile& file, const std::string& prefix) {
    const auto tokens = file.read_int32(prefix + "input_ids");
    const auto labels = file.read_int32(prefix + "labels");
    const auto begin = file.read_int32(prefix + "cu_seqlens");
    PackedBatch batch;
    for (std::size_t s = 0; s + 1 < begin.size(); ++s) {
        const auto first = static_cast<std::size_t>(begin[s]);
        const auto last = static_cast<std::size_t>(begin[s + 1]);
        std::size_t first_label = first + 1;  // the first token is nobody's target
        while (first_label < last && labels[first_label] < 0) ++first_label;
        append_sequence(batch,
                        {tokens.begin() + static_cast<std::ptrdiff_t>(first),
                         tokens.begin() + static_cast<std::ptrdiff_t>(last)},
                        first_label - 1 - first);
    }
    return batch;
}

/// sum_i weight_i loss_i.
inline double weighted(const PackedBatch& batch, const std::vector<double>& loss) {
    double sum = 0;
    for (std::size_t i = 0; i < loss.size(); ++i) sum += batch.target_weight[i] * loss[i];
    return sum;
}

/// ||a - b|| / ||b||.
inline double relative_distance(std::span<const float> a, std::span<const float> b) {
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
        difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
        norm += double{b[i]} * b[i];
    }
    return std::sqrt(difference / norm);
}

}  // namespace fedit::test
