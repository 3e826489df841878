// app/evaluate.cpp: `fedit evaluate`: loss and perplexity of a base model or of base + adapter.
#include <filesystem>
#include <optional>
#include <vector>

#include "app/commands.h"
#include "app/records.h"
#include "app/token_losses.h"
#include "fedit/experiment/adapter_file.h"
#include "fedit/experiment/evaluation.h"
#include "fedit/experiment/session.h"

namespace fedit {

ExitCode run_evaluate(const Context& context, const Config& config) {
    const Communicator& comm = context.comm;
    Machine machine = choose_machine(config, comm);
    const BaseModel base(comm, config.model, machine);

    EncodedRecords records;
    PeftAdapter adapter;
    comm.together("read records and adapter", [&] {
        records = read_encoded(config, base.config());
        if (!config.adapter.empty()) adapter = read_adapter(config.adapter, base.config());
    });
    Decoder decoder(base.config(), base.weights(), adapter.layout, *machine.backend);
    const Evaluation evaluation = evaluate(comm, decoder, *machine.backend, records, adapter.x,
                                           static_cast<int>(config.eval_batch_size));
    if (!config.token_losses.empty()) {
        comm.together("write the losses of tokens", [&] {
            if (comm.rank() != 0) return;
            context.files.write(config.token_losses,
                                token_losses(decoder, *machine.backend, records, adapter.x));
        });
    }
    print_result(
        comm, config.output_format == "json" ? to_json(evaluation) + '\n' : to_table(evaluation));
    return ExitCode::done;
}

}  // namespace fedit
