#!/usr/bin/env python3
"""Holds what `fedit export` writes against Transformers and PEFT, token by token.

    export_check.py --fedit PROGRAM --shared FOLDER [--only NAME]

For each folder in SHARED/fixtures/lora: trains a round from its adapter, exports the run as a PEFT
folder and merges it into the base (fp32 in shards, and bf16). The losses of all labelled tokens
must agree, in nats:
    peft      base + exported adapter in PEFT              against  fedit evaluate --adapter
    merged    the merged folder in Transformers            against  fedit evaluate of that folder
    same      the merged folder here                       against  base + adapter here
    bf16      the folder merged in bf16 in Transformers    against  fedit evaluate of that folder
Then changes configs to what the fixtures do not have (windows of some layers, rotary types beyond
the positions of training) and compares the plain models, a record at a time, with every token
labelled. Prints the largest differences of each as a Markdown table and ends with 1 if one is above
2e-5. Needs torch, transformers, peft, safetensors.
"""

import argparse
import json
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

import peft
import safetensors.torch
import torch
import transformers

TOLERANCE = 2e-5


def read_batch(path, prefix):
    """The packed sequences of a fixture as records that fedit reads: input_ids and labels."""
    tensors = safetensors.torch.load_file(path)
    ids, labels = tensors[prefix + "input_ids"].tolist(), tensors[prefix + "labels"].tolist()
    begin = tensors[prefix + "cu_seqlens"].tolist()
    return [{"input_ids": ids[a:b], "labels": labels[a:b]} for a, b in zip(begin, begin[1:])]


def torch_losses(model, records):
    """Cross-entropy of each labelled token, a list for each record."""
    losses = []
    for record in records:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([record["input_ids"]])).logits[0, :-1].double()
        labels = torch.tensor(record["labels"][1:], dtype=torch.long)
        each = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100,
                                                 reduction="none")
        losses.append(each[labels >= 0].tolist())
    return losses


def largest_difference(ours, theirs):
    assert [len(record) for record in ours] == [len(record) for record in theirs]
    pairs = [(a, b) for x, y in zip(ours, theirs) for a, b in zip(x, y)]
    assert pairs
    return max(abs(a - b) for a, b in pairs)


class Case:
    def __init__(self, fedit, shared, name, folder):
        self.fedit, self.folder = fedit, folder
        source = shared / "fixtures/lora" / name
        expected = json.loads((source / "expected.json").read_text())
        self.model = shared / "fixtures/models" / expected["model"]
        self.records = read_batch(source / "expected.safetensors", "batch0.")
        self.data = folder / "records.jsonl"
        self.data.write_text("".join(json.dumps(record) + "\n" for record in self.records))
        self.run("train", "--model", self.model, "--data", self.data,
                 "--init-adapter", source / "adapter", "--num-clients", 2, "--rounds", 1,
                 "--learning-rate", 0.01, "--lora-dropout", 0, "--dtype", "fp32", "--threads", 1,
                 "--progress", "none", "--output", folder / "run")

    def run(self, *words):
        subprocess.run([str(self.fedit), *map(str, words)], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE)

    def export(self, name, *words):
        self.run("export", "--adapter", self.folder / "run", "--output", self.folder / name, *words)
        return self.folder / name

    def our_losses(self, model, *words):
        path = self.folder / "losses.jsonl"
        self.run("evaluate", "--model", model, "--data", self.data, "--dtype", "fp32",
                 "--threads", 1, "--token-losses", path, *words)
        return [json.loads(line)["losses"] for line in path.read_text().splitlines()]

    def their_losses(self, model, adapter=None):
        loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32,
                                                                   attn_implementation="eager")
        if adapter is not None:
            loaded = peft.PeftModel.from_pretrained(loaded, adapter)
        return torch_losses(loaded.eval(), self.records)

    def check(self):
        adapter = self.export("peft")
        merged = self.export("merged", "--merge", "--model", self.model, "--save-dtype", "fp32",
                             "--max-shard-size", "0.0001")
        half = self.export("half", "--merge", "--model", self.model, "--save-dtype", "bf16")
        assert (merged / "model.safetensors.index.json").exists()
        ours_apart = self.our_losses(self.model, "--adapter", adapter)
        ours_merged = self.our_losses(merged)
        return {"peft": largest_difference(ours_apart, self.their_losses(self.model, adapter)),
                "merged": largest_difference(ours_merged, self.their_losses(merged)),
                "same": largest_difference(ours_merged, ours_apart),
                "bf16": largest_difference(self.our_losses(half), self.their_losses(half))}


def rope(kind, **fields):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **fields}}


VARIANTS = [
    ("llama-gqa", {"max_position_embeddings": 32, **rope("dynamic", factor=2.0)}),
    ("llama-gqa", rope("yarn", factor=8.0, original_max_position_embeddings=32)),
    ("qwen2", rope("yarn", factor=4.0, original_max_position_embeddings=64, truncate=False,
                   beta_fast=8.0, attention_factor=1.3)),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1,
               "layer_types": None}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 17,
               "layer_types": ["sliding_attention", "full_attention"]}),
    ("mistral-window", {"sliding_window": None}),
    ("mistral-window", {"sliding_window": 1}),
    ("mistral-window", {"sliding_window": 20, "max_position_embeddings": 16,
                        "rope_scaling": {"type": "dynamic", "factor": 4.0}}),
]


def check_variant(fedit, shared, name, change, folder):
    source, model = shared / "fixtures/models" / name, folder / "model"
    shutil.copytree(source, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **change}))
    records = read_batch(source / "expected.safetensors", "")
    for record in records:
        record["labels"] = record["input_ids"]
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    subprocess.run([str(fedit), "evaluate", "--model", model, "--data", folder / "records.jsonl",
                    "--dtype", "fp32", "--threads", "1", "--token-losses", folder / "losses"],
                   check=True, stdout=subprocess.DEVNULL)
    ours = [json.loads(line)["losses"] for line in (folder / "losses").read_text().splitlines()]
    theirs = []
    for record in records:  # a fresh model each: dynamic frequencies remember the longest sequence
        loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32,
                                                                   attn_implementation="eager")
        theirs += torch_losses(loaded.eval(), [record])
    return largest_difference(ours, theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fedit", type=pathlib.Path, required=True)
    parser.add_argument("--shared", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="one case")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()

    names = sorted(path.name for path in (args.shared / "fixtures/lora").iterdir())
    worst = 0.0
    print(f"Python {platform.python_version()}, PyTorch {torch.__version__}, "
          f"Transformers {transformers.__version__}, PEFT {peft.__version__}\n")
    print("| case | peft | merged | same | bf16 |\n|---|---|---|---|---|")
    for name in names if args.only is None else [args.only]:
        with tempfile.TemporaryDirectory() as folder:
            result = Case(args.fedit.resolve(), args.shared, name, pathlib.Path(folder)).check()
        print(f"| {name} | " + " | ".join(f"{value:.1e}" for value in result.values()) + " |",
              flush=True)
        worst = max(worst, *result.values())
    print("\n| model | changed | difference |\n|---|---|---|")
    for name, change in VARIANTS if args.only is None else []:
        with tempfile.TemporaryDirectory() as folder:
            difference = check_variant(args.fedit.resolve(), args.shared, name, change,
                                       pathlib.Path(folder))
        print(f"| {name} | `{json.dumps(change)}` | {difference:.1e} |", flush=True)
        worst = max(worst, difference)
    print(f"\nlargest difference {worst:.1e} nats, allowed {TOLERANCE:.0e}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
