"""tests/gpu/benchmarks.py: figures of a machine with a GPU, with random weights of known shapes."""

import json
import random
import shutil

from programs import Failed, read_json
from random_model import write_model


def write_records(path, count, tokens, vocabulary):
    """Records of exactly `tokens` random tokens, the second half of each learned."""
    stream = random.Random(2)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            ids = [stream.randrange(3, vocabulary) for _ in range(tokens)]
            labels = [-100] * (tokens // 2) + ids[tokens // 2:]
            file.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")


def bench_model(p, name, tokens, records):
    """Local training: rank 16 on all linear layers, bf16, sequences of `tokens` tokens, one
    micro-batch of `records` of them."""
    shape = p.root / "bench" / "models" / f"{name}.json"
    folder = p.output / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        size = write_model(shape, folder)
        data = p.output / f"{name}.jsonl"
        write_records(data, records, tokens, json.loads(shape.read_text())["vocab_size"])
        said = p.run("bench", [
            p.fedit, "bench", "--model", folder, "--data", data, "--device", "cuda", "--dtype",
            "bf16", "--lora-r", "16", "--lora-target-modules", "all-linear", "--cutoff-len",
            str(tokens), "--batch-size", str(records), "--micro-batch-size", str(records),
            "--steps", "3" if p.quick else "10", "--output-format", "json"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    facts = read_json(said)
    if not facts["tokens_per_second"] > 0:
        raise Failed("no tokens were trained", facts)
    return {"shape": name, "model_bytes": size, "tokens": tokens, "records": records, **facts}


def bench_adapter_sum(p):
    """`fedit bench` on four ranks: the LLaMA-2-7B adapter of rank 16, 40 million numbers."""
    shape = p.root / "bench" / "models" / "llama-2-7b.json"
    facts = read_json(p.run("adapter-sum", p.ranks(4, [
        p.fedit, "bench", "--model-config", shape, "--lora-r", "16", "--lora-target-modules",
        "all-linear", "--threads", "1", "--device", p.device, "--steps", "1" if p.quick else "5",
        "--output-format", "json"])))
    if facts["adapter_parameters"] != 39976960:
        raise Failed("the adapter is not the one of 160 MB", facts)
    return facts
