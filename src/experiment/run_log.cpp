// experiment/run_log.cpp: tables of rows as HDF5 columns, each column described once.
#include "fedit/experiment/run_log.h"

#include <variant>

#include "fedit/core/build_info.h"
#include "fedit/core/error.h"

namespace fedit {

namespace {

template <class Row>
struct Column {
    const char* name;
    const char* units;
    const char* description;
    std::variant<std::int64_t Row::*, double Row::*, std::string Row::*> field;
};

const std::vector<Column<LifeRow>> life_columns{
    {"start", "ISO 8601 UTC", "When this start of the program began", &LifeRow::start},
    {"end", "ISO 8601 UTC", "When it ended; empty while it runs or when it was killed",
     &LifeRow::end},
    {"end_reason", "1", "running, done, stopped, failed", &LifeRow::end_reason},
    {"world_size", "ranks", "MPI ranks", &LifeRow::world_size},
    {"threads", "threads", "Threads of a rank", &LifeRow::threads},
    {"first_round", "1", "The round it began with", &LifeRow::first_round},
    {"rounds_done", "rounds", "Rounds it finished", &LifeRow::rounds_done},
    {"hosts", "1", "Host names, by comma", &LifeRow::hosts},
    {"devices", "1", "What the ranks computed on", &LifeRow::devices},
    {"slurm_job_id", "1", "Slurm's job id and restart count, or empty", &LifeRow::slurm_job_id},
    {"versions", "1", "Program, commit, libraries", &LifeRow::versions},
};

const std::vector<Column<RoundRow>> round_columns{
    {"round", "1", "From 0", &RoundRow::round},
    {"train_loss", "nats", "Mean over the clients' steps, weighted as the clients are",
     &RoundRow::train_loss},
    {"eval_loss", "nats",
     "Mean over labelled targets of the held-out records; with --mode local the mean of that over "
     "the clients; NaN: not evaluated",
     &RoundRow::eval_loss},
    {"clients", "clients", "Sampled", &RoundRow::clients},
    {"rejected", "clients", "Updates that the screen refused", &RoundRow::rejected},
    {"records", "records", "Of the sampled clients, with at least one labelled target",
     &RoundRow::records},
    {"tokens", "tokens", "Trained on, all local steps", &RoundRow::tokens},
    {"labelled_tokens", "tokens", "Targets trained on, all local steps",
     &RoundRow::labelled_tokens},
    {"steps", "steps", "Optimizer steps of all clients", &RoundRow::steps},
    {"skipped_batches", "batches", "Batches without a labelled target", &RoundRow::skipped_batches},
    {"seconds_total", "s", "Wall time of the round", &RoundRow::seconds_total},
    {"seconds_train", "s", "Local training, the slowest rank", &RoundRow::seconds_train},
    {"seconds_wait", "s", "Waiting for the slowest rank, rank 0", &RoundRow::seconds_wait},
    {"seconds_aggregate", "s", "Sum over ranks and server step", &RoundRow::seconds_aggregate},
    {"seconds_evaluate", "s", "Evaluation", &RoundRow::seconds_evaluate},
    {"seconds_write", "s", "Adapter, log and checkpoint of the round before",
     &RoundRow::seconds_write},
    {"bytes_up", "bytes", "What real clients would send: fp32 adapters", &RoundRow::bytes_up},
    {"bytes_down", "bytes", "What real clients would receive: fp32 adapters",
     &RoundRow::bytes_down},
    {"update_norm", "1", "L2 norm of the global update", &RoundRow::update_norm},
    {"aggregation_error", "1",
     "||sum p B A - mean B mean A||_F over all modules, without scale; NaN: not computed",
     &RoundRow::aggregation_error},
    {"aggregation_error_relative", "1",
     "The same with each module's scale, divided by ||sum p scale B A||_F; NaN: not computed",
     &RoundRow::aggregation_error_relative},
    {"peak_memory_bytes", "bytes", "Largest resident size of a rank so far",
     &RoundRow::peak_memory_bytes},
};

const std::vector<Column<ClientRow>> client_columns{
    {"round", "1", "From 0", &ClientRow::round},
    {"client", "1", "From 0", &ClientRow::client},
    {"rank", "1", "That trained it", &ClientRow::rank},
    {"records", "records", "With at least one labelled target", &ClientRow::records},
    {"tokens", "tokens", "Trained on, all local steps", &ClientRow::tokens},
    {"labelled_tokens", "tokens", "Targets trained on, all local steps",
     &ClientRow::labelled_tokens},
    {"steps", "steps", "Optimizer steps", &ClientRow::steps},
    {"skipped_batches", "batches", "Batches without a labelled target",
     &ClientRow::skipped_batches},
    {"rejected", "1", "1: the screen refused its update", &ClientRow::rejected},
    {"loss_first", "nats", "Mean loss of the first step's batch", &ClientRow::loss_first},
    {"loss_last", "nats", "Mean loss of the last step's batch", &ClientRow::loss_last},
    {"loss_mean", "nats", "Mean over steps of the batch's mean loss", &ClientRow::loss_mean},
    {"update_norm", "1", "L2 norm of the client's update", &ClientRow::update_norm},
    {"seconds", "s", "Local training", &ClientRow::seconds},
};

const std::vector<Column<EvaluationRow>> evaluation_columns{
    {"round", "1", "From 0: the adapter after this round", &EvaluationRow::round},
    {"client", "1", "Whose own adapter (--mode local); -1: the global one", &EvaluationRow::client},
    {"category", "1", "\"all\" is the whole", &EvaluationRow::category},
    {"loss", "nats", "Mean over labelled targets", &EvaluationRow::loss},
    {"perplexity", "1", "exp(loss)", &EvaluationRow::perplexity},
    {"token_accuracy", "1", "Share of the labelled targets that have the largest logit",
     &EvaluationRow::token_accuracy},
    {"labelled_tokens", "tokens", "Targets counted", &EvaluationRow::labelled_tokens},
    {"records", "records", "Held-out records", &EvaluationRow::records},
    {"records_without_label", "records", "Of these, records whose prompt left no target",
     &EvaluationRow::records_without_label},
};

template <class Row>
void write_table(Hdf5Writer& writer, const std::string& group, const std::vector<Row>& rows,
                 const std::vector<Column<Row>>& columns) {
    for (const Column<Row>& column : columns) {
        std::visit(
            [&](auto field) {
                std::vector<std::remove_cvref_t<decltype(Row{}.*field)>> values;
                values.reserve(rows.size());
                for (const Row& row : rows) values.push_back(row.*field);
                writer.column(group + "/" + column.name, std::span(std::as_const(values)),
                              ColumnInfo{column.units, column.description});
            },
            column.field);
    }
}

std::vector<std::int64_t> read_column(const Hdf5Reader& reader, const std::string& path,
                                      std::int64_t) {
    return reader.ints(path);
}
std::vector<double> read_column(const Hdf5Reader& reader, const std::string& path, double) {
    return reader.doubles(path);
}
std::vector<std::string> read_column(const Hdf5Reader& reader, const std::string& path,
                                     const std::string&) {
    return reader.strings(path);
}

template <class Row>
std::vector<Row> read_table(const Hdf5Reader& reader, const std::string& group,
                            const std::vector<Column<Row>>& columns) {
    std::vector<Row> rows;
    for (const Column<Row>& column : columns) {
        std::visit(
            [&](auto field) {
                const std::string path = group + "/" + column.name;
                auto values = read_column(reader, path, Row{}.*field);
                if (&column == columns.data()) rows.resize(values.size());
                if (values.size() != rows.size()) {
                    throw InputError({.what = "columns of one table differ in length",
                                      .where = reader.source() + ", " + path,
                                      .remedy = "the file was not written by fedit; use another"});
                }
                for (std::size_t i = 0; i < rows.size(); ++i) rows[i].*field = std::move(values[i]);
            },
            column.field);
    }
    return rows;
}

void write_partition(Hdf5Writer& writer, const PartitionTable& table) {
    std::vector<std::int64_t> begin{0}, records;
    for (const auto& mine : table.partition.records) {
        records.insert(records.end(), mine.begin(), mine.end());
        begin.push_back(static_cast<std::int64_t>(records.size()));
    }
    writer.column(
        "/partition/client_begin", std::span<const std::int64_t>(begin),
        {"records", "Client k holds record[client_begin[k]] up to record[client_begin[k + 1]]"});
    writer.column("/partition/record", std::span<const std::int64_t>(records),
                  {"1", "Index of a record among all training records, in file order"});
    writer.column("/partition/category_names", std::span<const std::string>(table.categories),
                  {"1", "Names of the categories; empty: records without one"});
    writer.column("/partition/client_category",
                  std::span<const std::int64_t>(table.client_category),
                  {"records", "Records of client k in category c, at k * categories + c"});
}

PartitionTable read_partition(const Hdf5Reader& reader) {
    PartitionTable table;
    const auto begin = reader.ints("/partition/client_begin");
    const auto records = reader.ints("/partition/record");
    for (std::size_t k = 0; k + 1 < begin.size(); ++k) {
        if (begin[k] < 0 || begin[k] > begin[k + 1] || begin[k + 1] > std::ssize(records)) {
            throw InputError({.what = "the partition's offsets are not ascending",
                              .where = reader.source() + ", /partition/client_begin",
                              .remedy = "the file was not written by fedit; use another"});
        }
        table.partition.records.emplace_back(records.begin() + begin[k],
                                             records.begin() + begin[k + 1]);
    }
    table.categories = reader.strings("/partition/category_names");
    table.client_category = reader.ints("/partition/client_category");
    return table;
}

}  // namespace

void RunLog::write(Hdf5Writer& writer) const {
    const BuildInfo build = build_info();
    writer.attribute("/", "schema_version", std::int64_t{file_schema});
    writer.attribute("/", "creator", "fedit " + std::string(build.version));
    writer.attribute("/", "git_commit", build.git_commit);
    writer.attribute("/", "git_dirty", std::int64_t{build.git_dirty});
    writer.attribute("/", "configuration", facts.configuration);
    writer.attribute("/", "identity_text", facts.identity);
    writer.attribute("/", "identity", facts.identity_hash);
    writer.attribute("/", "created", facts.created);
    writer.attribute("/", "seed", facts.seed);
    writer.attribute("/", "num_clients", facts.num_clients);
    write_table(writer, "/lives", lives, life_columns);
    write_table(writer, "/rounds", rounds, round_columns);
    write_table(writer, "/clients", clients, client_columns);
    write_table(writer, "/evaluation", evaluation, evaluation_columns);
    write_partition(writer, partition);
}

RunLog RunLog::read(const Hdf5Reader& reader) {
    RunLog log;
    log.facts.configuration = reader.text_attribute("/", "configuration");
    log.facts.identity = reader.text_attribute("/", "identity_text");
    log.facts.identity_hash = reader.text_attribute("/", "identity");
    log.facts.created = reader.text_attribute("/", "created");
    log.facts.seed = reader.int_attribute("/", "seed");
    log.facts.num_clients = reader.int_attribute("/", "num_clients");
    log.lives = read_table(reader, "/lives", life_columns);
    log.rounds = read_table(reader, "/rounds", round_columns);
    log.clients = read_table(reader, "/clients", client_columns);
    log.evaluation = read_table(reader, "/evaluation", evaluation_columns);
    log.partition = read_partition(reader);
    return log;
}

std::vector<std::byte> RunLog::encode() const {
    Hdf5Writer writer;
    write(writer);
    return writer.finish(FileKind::run_log);
}

}  // namespace fedit
