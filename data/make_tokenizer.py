#!/usr/bin/env python3
"""Trains the byte-fallback BPE tokenizer of tiny-llama on the shipped instruction set."""

import argparse
import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

DATA = Path(__file__).resolve().parent
VOCABULARY = 1536
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPECIAL = [UNKNOWN, BEGIN, END]  # ids 0, 1, 2; the 256 bytes follow
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPACE = "\u2581"


def training_lines():
    """The lines of each record as a run may see it: in one of the templates, by turns."""
    templates = [json.loads(path.read_text(encoding="utf-8"))
                 for path in sorted((DATA / "templates").glob("*.json"))]
    records = (DATA / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
    for i, record in enumerate(map(json.loads, records)):
        template = templates[i % len(templates)]
        prompt = template["prompt_input" if record["context"] else "prompt_no_input"]
        text = prompt.format(instruction=record["instruction"], input=record["context"])
        yield from (text + record["response"]).split("\n")  # a line's end stays a byte: <0x0A>


def normalizer():
    return normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])


def train():
    """Vocabulary and merges. Merges stay within words: the learner sees the text split before
    each space mark, so that the finished tokenizer needs no splitting."""
    learner = Tokenizer(BPE())
    learner.normalizer = normalizer()
    learner.pre_tokenizer = pre_tokenizers.Split(SPACE, "merged_with_next")
    trainer = BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL + BYTES, show_progress=False,
                         initial_alphabet=[chr(code) for code in range(0x21, 0x7F)])
    learner.train_from_iterator(training_lines(), trainer)
    model = json.loads(learner.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def build(vocabulary, merges):
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token=UNKNOWN, fuse_unk=True,
                              byte_fallback=True))
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.normalizer = normalizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN}:1 $B:1",
        special_tokens=[(BEGIN, SPECIAL.index(BEGIN))])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)])
    return tokenizer


def configuration():
    shown = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
             "special": True}
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {str(i): {"content": token, **shown}
                                 for i, token in enumerate(SPECIAL)},
        "bos_token": BEGIN,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "model_max_length": 512,
        "pad_token": UNKNOWN,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=DATA / "tiny-llama",
                        help="folder that the two files are written to (default: tiny-llama here)")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    for name, text in (("tokenizer.json", build(*train()).to_str(pretty=True)),
                       ("tokenizer_config.json", json.dumps(configuration(), indent=2))):
        (output / name).write_text(text + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
