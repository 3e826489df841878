#!/usr/bin/env python3
"""Shows that each category of the shipped instructions is a skill of its own: eight clients hold
one category each; every client trains alone, and all train together; each result is asked all
categories.

    bench/one_category.py --fedit build/release/src/app/fedit --output FOLDER
                          [--ranks 2] [--rounds 10]

Prints a table of held-out losses by category: of the base, of each client alone, of the federation,
and the same for the share of right tokens. Stopped, the same command goes on.
"""

import argparse
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEASURES = {"loss": "Loss [nats]",
            "token_accuracy": "Share of labelled tokens that are the most likely"}


def make_clients(folder):
    """A folder in Shepherd's layout, one category a client; the categories in its order."""
    records = [json.loads(line) for line in (ROOT / "data/instructions.jsonl").open()]
    test = [json.loads(line) for line in (ROOT / "data/test.jsonl").open()]
    categories = sorted({record["category"] for record in records})
    folder.mkdir(parents=True, exist_ok=True)
    for k, category in enumerate(categories):
        mine = [record for record in records if record["category"] == category]
        (folder / f"local_training_{k}.json").write_text(json.dumps(mine))
    (folder / "global_test.json").write_text(json.dumps(test))
    return categories


def train(options, mode, data):
    """The settings of data/quickstart.ini; all clients in every round."""
    output = options.output / mode
    subprocess.run(
        ["mpirun", "--bind-to", "none", "-n", str(options.ranks), options.fedit, "train", "--model",
         ROOT / "data/tiny-llama", "--data", data, "--prompt-template",
         ROOT / "data/templates/plain.json", "--mode", mode, "--rounds", str(options.rounds),
         "--batch-size", "16", "--micro-batch-size", "16", "--lora-r", "32", "--lora-alpha", "64",
         "--lora-dropout", "0", "--lora-target-modules", "all-linear", "--learning-rate", "0.003",
         "--cutoff-len", "256", "--seed", "1", "--threads", "1", "--dtype", "fp32", "--eval-every",
         "0", "--output", output], check=True)
    return output / "adapter"


def evaluate(options, adapters):
    """The evaluation of each adapter, in this order."""
    done = subprocess.run(
        [options.fedit, "evaluate", "--model", ROOT / "data/tiny-llama", "--adapter",
         ",".join(map(str, adapters)), "--data", ROOT / "data/test.jsonl", "--prompt-template",
         ROOT / "data/templates/plain.json", "--cutoff-len", "256", "--threads", "1", "--dtype",
         "fp32", "--output-format", "json"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["models"]


def print_table(title, measure, names, models, categories):
    print(f"\n{title}, by category of the held-out records (rows: who trained)\n")
    print("| | " + " | ".join([*categories, "all"]) + " |")
    print("|---" * (len(categories) + 2) + "|")
    for name, model in zip(names, models):
        parts = [f"{model['by_category'][category][measure]:.2f}" for category in categories]
        own = name.removeprefix("alone: ")
        if own in categories:
            parts[categories.index(own)] = f"**{parts[categories.index(own)]}**"
        print(f"| {name} | " + " | ".join([*parts, f"{model[measure]:.2f}"]) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fedit", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    data = options.output / "clients"
    categories = make_clients(data)
    alone = train(options, "local", data)
    together = train(options, "federated", data)
    names = ["base", *(f"alone: {category}" for category in categories), "federated"]
    models = evaluate(options, ["base", *(alone / f"client_{k:06}" for k in range(len(categories))),
                                together])
    for measure, title in MEASURES.items():
        print_table(title, measure, names, models, categories)


if __name__ == "__main__":
    main()
