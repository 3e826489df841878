"""Writes a small run.h5 as the program does: a user block of 512 bytes, tables of columns."""

import h5py
import numpy

CATEGORIES = ["open_qa", "closed_qa", "Erzählung", "要約"]
CLIENTS = 5
CONFIGURATION = "model = models/tiny <b>\n# a comment\nrounds = 6\nlearning-rate = 0.003\n"


def _table(file, name, columns):
    group = file.create_group(name)
    for key, values in columns.items():
        text = len(values) > 0 and isinstance(values[0], str)
        column = group.create_dataset(key, data=values, dtype=h5py.string_dtype() if text else None)
        column.attrs["units"] = ""
        column.attrs["description"] = key


def sampled(round_):
    """Three of five clients."""
    return [(round_ + i) % CLIENTS for i in (0, 1, 3)]


def local_evaluation():
    """Round 0 of a local run: (client, category, loss), two clients and the whole besides."""
    return [(client, category, 1.0 + client + 0.25 * i) for client in range(2)
            for i, category in enumerate(["all", *CATEGORIES])]


def write(path, rounds=4, end_reason="done", evaluate=True, schema=1, clients=CLIENTS, local=False):
    """`rounds` rounds of which every second one is evaluated; client 1 is rejected in round 1.
    local: the only evaluation is that of local_evaluation()."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.attrs.update(schema_version=schema, creator="fedit 0.1.0", git_commit="abc123",
                          git_dirty=0, configuration=CONFIGURATION, seed=7, identity="f00d",
                          num_clients=clients, created="2030-01-02T03:04:05Z")
        _table(file, "lives", {
            "start": ["2030-01-02T03:04:05Z", "2030-01-02T04:04:05Z"],
            "end": ["2030-01-02T03:30:00Z",
                    "" if end_reason == "running" else "2030-01-02T05:00:00Z"],
            "end_reason": ["stopped", end_reason], "world_size": [2, 4], "first_round": [0, 2],
            "rounds_done": [2, max(0, rounds - 2)], "hosts": ["node-a", "node-a node-b"],
            "devices": ["cpu", "cpu"], "slurm_job_id": ["", "17"], "versions": ["x 1", "x 1"]})
        index = numpy.arange(rounds)
        _table(file, "rounds", {
            "round": index, "train_loss": 3.0 - 0.25 * index,
            "eval_loss": numpy.where((index % 2 == 1) & evaluate, 3.2 - 0.25 * index, numpy.nan),
            "clients": numpy.full(rounds, 3), "rejected": (index == 1).astype(int),
            "records": 30 + index, "tokens": 1000 + index, "labelled_tokens": 400 + index,
            "steps": numpy.full(rounds, 12), "seconds_total": 2.0 + 0.1 * index,
            "seconds_train": numpy.full(rounds, 1.5), "seconds_aggregate": numpy.full(rounds, 0.1),
            "seconds_evaluate": 0.3 * (index % 2), "seconds_write": numpy.full(rounds, 0.05),
            "bytes_up": numpy.full(rounds, 4096), "bytes_down": numpy.full(rounds, 4096),
            "update_norm": 0.5 / (1 + index), "aggregation_error": numpy.full(rounds, numpy.nan),
            "peak_memory_bytes": numpy.full(rounds, 10**8), "a_later_column": index * 2})
        pairs = [(r, c) for r in range(rounds) for c in (
            sampled(r) if clients == CLIENTS else range(clients))]
        _table(file, "clients", {
            "round": numpy.array([r for r, _ in pairs], int),
            "client": numpy.array([c for _, c in pairs], int),
            "rank": numpy.array([c % 2 for _, c in pairs], int),
            "loss_first": numpy.array([3.1 - 0.2 * r + 0.05 * c for r, c in pairs]),
            "loss_last": numpy.array([2.9 - 0.2 * r + 0.05 * c for r, c in pairs]),
            "rejected": numpy.array([int((r, c) == (1, 1)) for r, c in pairs], int),
            "seconds": numpy.array([0.5 for _ in pairs])})
        evaluated = [r for r in range(rounds) if r % 2 and evaluate]
        names = ["all", *CATEGORIES] * len(evaluated)
        losses = numpy.array([3.2 - 0.25 * r + 0.1 * i for r in evaluated
                              for i in range(1 + len(CATEGORIES))])
        if local:
            rows = local_evaluation()
            _table(file, "evaluation", {
                "round": numpy.zeros(len(rows), int), "client": [row[0] for row in rows],
                "category": [row[1] for row in rows], "loss": [row[2] for row in rows],
                "perplexity": numpy.exp([row[2] for row in rows])})
        else:
            _table(file, "evaluation", {
                "round": numpy.repeat(numpy.array(evaluated, int), 1 + len(CATEGORIES)),
                "category": names if names else numpy.array([], h5py.string_dtype()),
                "loss": losses, "perplexity": numpy.exp(losses)})
        counts = numpy.arange(clients * len(CATEGORIES)).reshape(clients, -1) * 7 % 40
        totals = counts.sum(axis=1)
        _table(file, "partition", {
            "client_begin": numpy.concatenate([[0], numpy.cumsum(totals)]),
            "record": numpy.arange(totals.sum()), "category_names": CATEGORIES,
            "client_category": counts.ravel()})
