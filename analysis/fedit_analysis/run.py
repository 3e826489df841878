"""Reads run.h5, also while the run goes on and replaces the file."""

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import h5py
import numpy
import pandas

SCHEMA_VERSION = 1
ATTEMPTS, PAUSE = 5, 0.2  # a file on its way may be missing for a moment; seconds

# Columns that the package reads, and what stands for one that a file does not have. Other columns
# of a file are kept as they are.
GLOBAL = -1  # in place of a client: the global adapter
_KEY = -2  # a whole number, and a table without such a column is an error
_TEXT_KEY = "-"  # the same for a text
_TABLES = {
    "lives": {"start": "", "end": "", "end_reason": "", "world_size": numpy.nan,
              "first_round": numpy.nan, "rounds_done": numpy.nan, "hosts": "", "devices": "",
              "slurm_job_id": "", "versions": ""},
    "rounds": {"round": _KEY, **dict.fromkeys((
        "train_loss", "eval_loss", "clients", "rejected", "records", "tokens", "labelled_tokens",
        "steps", "seconds_total", "seconds_train", "seconds_aggregate", "seconds_evaluate",
        "seconds_write", "bytes_up", "bytes_down", "update_norm", "aggregation_error",
        "aggregation_error_relative", "peak_memory_bytes"), numpy.nan)},
    "clients": {"round": _KEY, "client": _KEY, "rejected": 0, **dict.fromkeys((
        "rank", "records", "tokens", "labelled_tokens", "steps", "loss_first", "loss_last",
        "update_norm", "seconds"), numpy.nan)},
    "evaluation": {"round": _KEY, "client": GLOBAL, "category": _TEXT_KEY, **dict.fromkeys((
        "loss", "perplexity", "token_accuracy", "labelled_tokens", "records",
        "records_without_label"), numpy.nan)},
}
_STATES = {"done": "finished", "running": "in progress", "stopped": "stopped, to be continued"}


class InputError(Exception):
    """Something the user can mend: what is wrong, where, and what to do."""

    def __init__(self, what, where, remedy):
        super().__init__(f"{what}\n  where: {where}\n  do:    {remedy}")
        self.what, self.where, self.remedy = what, str(where), remedy


@dataclass(frozen=True)
class Run:
    """One reading of a run's log; open the run again to see later rounds.

    rounds: one row a round. clients: one row per (round, client). evaluation: one row per (round,
    category), with "all" for the total; where clients train alone (--mode local), the mean over
    them. client_evaluation: their own rows, one per (round, client, category); else empty. lives:
    one row a start of the program. partition: one row a client, one column a category, number of
    records; empty if the log does not have it.
    Losses are nats a token, times seconds, sizes bytes; see the columns' attributes in the file.
    """

    path: Path
    written: datetime  # when the file was written, UTC
    attributes: dict  # of the file: creator, seed, git_commit, ...
    configuration: dict  # option name -> text
    rounds: pandas.DataFrame
    clients: pandas.DataFrame
    evaluation: pandas.DataFrame
    client_evaluation: pandas.DataFrame
    lives: pandas.DataFrame
    partition: pandas.DataFrame

    @property
    def state(self):
        """"finished", "in progress", "stopped, to be continued" or another end of the last life.

        A run that was killed could not write that it ended, so it reads "in progress".
        """
        reason = self.lives["end_reason"].iloc[-1] if len(self.lives) else "running"
        return _STATES.get(reason or "running", reason)


def open_run(folder):
    """The run that writes to `folder`. Throws InputError for a folder without a readable log."""
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InputError(f"the run's folder {what}", folder,
                         "give the folder that `fedit train --output` wrote")
    path = folder / "run.h5"
    with _open(path) as file:
        _check_schema(file, path)
        attributes = {name: _plain(value) for name, value in file.attrs.items()}
        tables = {name: _read_table(file, name, path) for name in _TABLES}
        partition = _read_partition(file, path)
    tables["evaluation"], tables["client_evaluation"] = _split_evaluation(tables["evaluation"])
    return Run(path=path, written=datetime.fromtimestamp(path.stat().st_mtime, timezone.utc),
               configuration=_parse_configuration(attributes.pop("configuration", "")),
               attributes=attributes, partition=partition, **tables)


def _open(path):
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        try:
            return h5py.File(path, "r", locking=False)
        except OSError as error:
            problem = error
    if isinstance(problem, FileNotFoundError):
        raise InputError("the folder has no run.h5", path,
                         "wait until the first round is written, or give another folder")
    if isinstance(problem, PermissionError):
        raise InputError("run.h5 may not be read", path, "ask its owner for the right to read it")
    raise InputError(f"run.h5 is not a readable HDF5 file ({problem})", path,
                     "check that it was copied whole")


def _check_schema(file, path):
    version = _plain(file.attrs.get("schema_version", None))
    if version != SCHEMA_VERSION:
        found = "no schema version" if version is None else f"schema version {version}"
        raise InputError(f"the log has {found}", f"{path}, attribute schema_version",
                         f"this package reads version {SCHEMA_VERSION}: use the package that came "
                         "with the program that wrote the log")


def _plain(value):
    """An attribute as int, float or str, also where it is stored as an array of one."""
    if isinstance(value, numpy.ndarray):
        value = value.ravel()[0] if value.size == 1 else value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.item() if isinstance(value, numpy.generic) else value


def _column(dataset):
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return dataset.asstr(errors="replace")[:]
    return dataset[:]


def _read_table(file, name, path):
    group = file.get(name, {})
    columns = {key: _column(dataset) for key, dataset in group.items()
               if isinstance(dataset, h5py.Dataset) and dataset.ndim == 1}
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"the columns of the table differ in length: {lengths}",
                         f"{path}, /{name}", "the log is damaged: take it from the run again")
    for key, default in _TABLES[name].items():
        if key in columns:
            continue
        if default in (_KEY, _TEXT_KEY) and lengths:
            raise InputError(f"the table has no column \"{key}\"", f"{path}, /{name}",
                             f"it has: {', '.join(sorted(columns))}; use the package that came "
                             "with the program that wrote the log")
        columns[key] = numpy.full(next(iter(lengths.values()), 0), default,
                                  dtype=object if isinstance(default, str) else None)
    known = list(_TABLES[name])
    return pandas.DataFrame(columns)[known + [key for key in columns if key not in known]]


def _split_evaluation(rows):
    """(rows of the global adapter, and the mean of the clients where each has its own; theirs)."""
    own = rows[rows["client"] != GLOBAL].reset_index(drop=True)
    shared = rows[rows["client"] == GLOBAL].drop(columns="client")
    if own.empty:
        return shared.reset_index(drop=True), own
    means = own.drop(columns="client").groupby(["round", "category"], sort=False).mean()
    return pandas.concat([shared, means.reset_index()], ignore_index=True), own


def _read_partition(file, path):
    group = file.get("partition", {})
    if "client_category" not in group or "category_names" not in group:
        return pandas.DataFrame()
    names, counts = list(_column(group["category_names"])), group["client_category"][:]
    if not names or counts.size % len(names):
        raise InputError(f"{counts.size} counts do not make rows of {len(names)} categories",
                         f"{path}, /partition/client_category",
                         "the log is damaged: take it from the run again")
    table = pandas.DataFrame(counts.reshape(-1, len(names)), columns=names)
    return table.rename_axis(index="client", columns="category")


def _parse_configuration(text):
    """The options of a flat ini file."""
    options = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith(("#", ";")):
            options[name.strip()] = value.strip()
    return options
