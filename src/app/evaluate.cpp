// app/evaluate.cpp: `fedit evaluate`: loss and perplexity of a base model or of base + adapter.
#include <filesystem>
#include <optional>
#include <vector>

#include "app/commands.h"
#include "app/records.h"
#include "fedit/experiment/evaluation.h"
#include "fedit/experiment/session.h"
#include "fedit/model/peft.h"

namespace fedit {

ExitCode run_evaluate(const Context& context, const Config& config) {
    const Communicator& comm = context.comm;
    Machine machine = choose_machine(config, comm);
    const BaseModel base(comm, config.model, machine);

    EncodedRecords records;
    PeftAdapter adapter;
    comm.together("read records and adapter", [&] {
        records = read_encoded(config, base.config());
        if (!config.adapter.empty()) adapter = read_peft(config.adapter, base.config());
    });
    Decoder decoder(base.config(), base.weights(), adapter.layout, *machine.backend);
    const Evaluation evaluation =
        evaluate(comm, decoder, *machine.backend, records, adapter.x,
                 static_cast<int>(config.eval_batch_size));
    print_result(
        comm, config.output_format == "json" ? to_json(evaluation) + '\n' : to_table(evaluation));
    return ExitCode::done;
}

}  // namespace fedit
