// tests/train/tiny_training.h: a tiny model with adapters, ready to train or to evaluate.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fedit/train/local_trainer.h"
#include "tests/model/loaded_model.h"
#include "tests/model/tiny_model.h"
#include "tests/support/shared_data.h"

namespace fedit::test {

struct TinyTraining {
    explicit TinyTraining(const std::string& folder, int threads = 1)
        : TinyTraining(folder, make_cpu_backend(threads)) {}
    TinyTraining(const std::string& folder, std::unique_ptr<Backend> backend,
                 Recompute recompute = Recompute::none, Dtype products = Dtype::fp32)
        : model(write_tiny_model(fresh_folder(folder)), std::move(backend), products),
          layout(make_lora_layout(model.config(),
                                  {.r = 3, .alpha = 6, .target_modules = {"all-linear"}})),
          decoder(model.config(), model.weights, layout, *model.backend, recompute) {}

    TrainOutcome train(const LocalConfig& config, const EncodedRecords& records, TrainJob job = {},
                       const Progress* resume = nullptr, const StopToken& stop = {},
                       const std::function<void(const TrainStats&)>& progress = {}) {
        std::vector<CohortMember> alone{{std::move(job), &records, resume}};
        return train(config, std::move(alone), stop,
                     [&](std::size_t, const TrainStats& stats) {
                         if (progress) progress(stats);
                     })
            .front();
    }

    std::vector<TrainOutcome> train(const LocalConfig& config, std::vector<CohortMember> cohort,
                                    const StopToken& stop = {}, const StepCallback& step = {}) {
        for (CohortMember& member : cohort) {
            if (member.job.start.empty()) member.job.start = initial_adapter(layout, 1);
        }
        LocalTrainer trainer(decoder, layout, *model.backend, config);
        return trainer.train(cohort, stop, step);
    }

    LoadedModel model;
    Layout layout;
    Decoder decoder;
};

}  // namespace fedit::test
