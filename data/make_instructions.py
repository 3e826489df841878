#!/usr/bin/env python3
"""Writes instructions.jsonl and test.jsonl, the shipped set, out of the world of world.py."""

import argparse
import json
from pathlib import Path

import questions
import texts
from stream import Stream

TRAIN, TEST = 160, 10  # records of each category


def _drawn(make):
    """A category whose records are drawn one by one; one that was seen before is drawn again."""
    def records(stream, train, test):
        different = {}
        while len(different) < train + test:
            record = make(stream)
            different.setdefault((record["instruction"], record["context"]), record)
        drawn = list(different.values())
        return drawn[:train], drawn[train:]
    return records


CATEGORIES = {
    "brainstorming": _drawn(questions.brainstorm),
    "classification": _drawn(texts.classify),
    "closed_qa": _drawn(texts.closed_qa),
    "creative_writing": _drawn(questions.write_creatively),
    "general_qa": questions.general_qa,
    "information_extraction": _drawn(texts.extract),
    "open_qa": questions.open_qa,
    "summarization": _drawn(texts.summarize),
}


def _write(path, records):
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent,
                        help="folder that the two files are written to (default: this one)")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)

    train, test = [], []
    for category, make in CATEGORIES.items():
        train_part, test_part = make(Stream(category), TRAIN, TEST)
        train += train_part
        test += test_part
    _write(output / "instructions.jsonl", Stream("order of training").shuffled(train))
    _write(output / "test.jsonl", test)


if __name__ == "__main__":
    main()
