#!/usr/bin/env python3
"""Times rounds of many small clients, trained one by one and in cohorts, in turn on
the same machine.

    cohorts.py --fedit FEDIT --config CONFIG.json --records FILE.jsonl [--clients 16]
               [--cohorts 1 8] [--rounds 3] [--repeats 3] [--output FOLDER]
               [-- more options of fedit train]

The records (already tokenised, so no tokenizer is needed) are dealt evenly to the clients; each
takes one optimizer step on all it has. The first round of a run warms up, the others count. Prints
a table in Markdown: tokens/s by cohort, the median over rounds and repeats, and its ratio to the
first cohort.
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROUND = re.compile(r"round (\d+)/\d+: .*, (\d+) tokens in .* \((\d+) tokens/s\)")


def run(command):
    print(" ".join(map(str, command)), file=sys.stderr, flush=True)
    done = subprocess.run([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"it ended with {done.returncode}:\n{done.stderr}")
    return done.stderr


def rates(said):
    """Tokens/s of every round but the first."""
    rounds = ROUND.findall(said)
    if len(rounds) < 2:
        raise SystemExit(f"no rounds in what it said:\n{said}")
    return [float(rate) for number, _, rate in rounds if int(number) > 1], int(rounds[0][1])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fedit", required=True)
    parser.add_argument("--config", required=True, help="config.json of the random model")
    parser.add_argument("--records", required=True,
                        help="JSON lines with input_ids and first_label")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--records-per-client", type=int, default=4)
    parser.add_argument("--cohorts", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path,
                        help="folder for the model and the runs (a temporary one)")
    parser.add_argument("more", nargs="*", help="options of fedit train, after --")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.output or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model, data = folder / "model", folder / "records.jsonl"
        if not model.exists():
            run([args.fedit, "init", "--model-config", args.config, "--output", model])
        lines = pathlib.Path(args.records).read_text().splitlines(keepends=True)
        wanted = args.clients * args.records_per_client
        data.write_text("".join(lines[i % len(lines)] for i in range(wanted)))
        batch = args.records_per_client
        command = [args.fedit, "train", "--model", model, "--data", data,
                   "--num-clients", args.clients, "--partition", "iid", "--rounds", args.rounds,
                   "--local-steps", 1, "--batch-size", batch, "--micro-batch-size", batch,
                   "--lora-target-modules", "all-linear", "--progress", "none",
                   "--keep-last", 1, *args.more]
        measured = {cohort: [] for cohort in args.cohorts}
        for repeat in range(args.repeats):
            for cohort in args.cohorts:
                output = folder / f"run_{cohort}_{repeat}"
                said = run([*command, "--cohort", cohort, "--output", output])
                seen, tokens = rates(said)
                measured[cohort] += seen
        print(f"{args.clients} clients of {batch} records, {tokens} tokens a round\n")
        print("| cohort | tokens/s | lowest | highest | over cohort", args.cohorts[0], "|")
        print("|---|---|---|---|---|")
        first = statistics.median(measured[args.cohorts[0]])
        for cohort, seen in measured.items():
            middle = statistics.median(seen)
            print(f"| {cohort} | {middle:.1f} | {min(seen):.1f} | {max(seen):.1f} |"
                  f" {middle / first:.2f} |")


if __name__ == "__main__":
    main()
