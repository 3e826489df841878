#!/usr/bin/env python3
"""Times `fedit bench` and Transformers + PEFT in turn: one model, one batch of records,
the same cores.

    beside_peft.py --fedit FEDIT --peer-script peft_lora.py --config bench-110m.json
                   --records FILE.jsonl [--device cuda] [--ways plain bucket compile] [--steps 2]
                   [--output FOLDER]
    beside_peft.py ... --model FOLDER --cutoff-len 1024 --peer-micro-batch-size 4

Run it with the Python that has torch, transformers and peft, on a machine that does nothing else.
The peer makes the random model first, if none is given, and both sides load it; after each way of
the peer fedit runs, so that both meet the machine in the same mood. Prints a table in Markdown; the
JSON lines of every run are in FOLDER/runs.jsonl. A ratio is tokens/s of fedit over tokens/s of the
peer before it.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

PEER_WAYS = {"plain": [], "bucket": ["--bucket"], "compile": ["--bucket", "--compile"]}
PEER_NAMES = {
    "plain": "PEFT, as the paper's code",
    "bucket": "PEFT, sorted by length",
    "compile": "PEFT, sorted by length, compiled",
}


def run(name, command, lines):
    """Runs a command; returns its JSON answer with its peak memory, and appends it to a file."""
    print(f"{name}: {' '.join(map(str, command))}", file=sys.stderr, flush=True)
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{name} failed with wait status {status}")
    # fedit prints one object over several lines, the peer one line after others of its libraries.
    begin = 0 if text.lstrip().startswith("{") else text.index("\n{") + 1
    answer = json.loads(text[begin:])
    answer.update(name=name, peak_rss_bytes=usage.ru_maxrss * 1024)
    lines.write(json.dumps(answer) + "\n")
    lines.flush()
    return answer


def table(pairs):
    """Rows for pairs of answers: the peer's, and that of the fedit that ran after it."""
    rows = [
        "| | tokens/s | step [s] | peak memory [MB] |"
        " fedit after it: tokens/s | step [s] | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for peer, fedit in pairs:
        rows.append(
            f"| {peer['name']} | {peer['tokens_per_second']:.1f} | {peer['step_seconds']:.2f} |"
            f" {peer['peak_rss_bytes'] / 1e6:.0f} |"
            f" {fedit['tokens_per_second']:.1f} | {fedit['step_seconds']:.2f} |"
            f" {fedit['tokens_per_second'] / peer['tokens_per_second']:.2f} |"
        )
    fedits = sorted((fedit for _, fedit in pairs), key=lambda fedit: fedit["share_of_product_rate"])
    fedit = fedits[len(fedits) // 2]
    rate = fedit["product_flops_per_second"]
    rows += [
        "",
        f"fedit (median share): {fedit['flops_per_second'] / 1e9:.1f} GFLOP/s,"
        f" {100 * fedit['share_of_product_rate']:.1f} % of the measured product rate,"
        f" {rate / 1e9:.1f} GFLOP/s ({fedit['dtype']}, {fedit['instruction_set']},"
        f" {fedit['threads']} threads); {fedit['peak_rss_bytes'] / 1e6:.0f} MB at most.",
    ]
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fedit", required=True)
    parser.add_argument("--peer-script", required=True)
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--config", help="config.json of a random model that the peer makes")
    either.add_argument("--model", type=pathlib.Path, help="or the folder of a model")
    parser.add_argument("--records", required=True,
                        help="JSON lines with input_ids and first_label")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu",
                        help="where both sides compute")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--ways", nargs="+", choices=PEER_WAYS, default=list(PEER_WAYS))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--micro-batch-size", type=int, default=8)
    parser.add_argument("--peer-micro-batch-size", type=int,
                        help="where the peer's memory does not hold as many")
    parser.add_argument("--cutoff-len", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2,
                        help="steps to time after one to warm up; the median counts")
    parser.add_argument("--output", type=pathlib.Path,
                        help="folder for the model and runs.jsonl (a temporary one)")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.output or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model = args.model or folder / "model"
        batch = ["--records", args.records, "--precision", args.precision, "--steps", args.steps]
        batch += ["--batch", args.batch_size, "--device", args.device]
        batch += ["--micro-batch", args.peer_micro_batch_size or args.micro_batch_size]
        batch += ["--cutoff", args.cutoff_len]
        with open(folder / "runs.jsonl", "w") as lines:
            pairs = []
            fedit = [args.fedit, "bench", "--model", model, "--data", args.records]
            fedit += ["--dtype", args.precision]
            fedit += ["--batch-size", args.batch_size, "--micro-batch-size", args.micro_batch_size]
            fedit += ["--device", args.device, "--steps", args.steps]
            fedit += ["--cutoff-len", args.cutoff_len]
            fedit += ["--lora-target-modules", "all-linear", "--output-format", "json"]
            for way in args.ways:
                source = (["--model", model] if model.exists()
                          else ["--config", args.config, "--save-model", model])
                peer = [sys.executable, args.peer_script, *source, *batch, *PEER_WAYS[way]]
                pairs.append((run(PEER_NAMES[way], peer, lines), run("fedit", fedit, lines)))
        print(table(pairs))
        versions = {key: value for answer, _ in pairs for key, value in answer["versions"].items()}
        print(f"\n{pairs[0][1]['device']}, peer with {versions}")


if __name__ == "__main__":
    main()
