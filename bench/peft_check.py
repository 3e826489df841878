#!/usr/bin/env python3
"""Loads an adapter folder in PEFT and prints its loss on held-out records,
to compare with `fedit evaluate`.

    peft_check.py --model FOLDER --adapter FOLDER --records FILE.json --prompt-template FILE.json

Needs torch, transformers, peft. A token is prompt when it begins before the prompt's end; a record
is cut to 512 tokens; the loss is the sum of cross-entropies over the number of labelled targets.
"""

import argparse
import json
import pathlib

import peft
import torch
import transformers


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--records", required=True)
    parser.add_argument("--prompt-template", required=True)
    parser.add_argument("--cutoff-len", type=int, default=512)
    args = parser.parse_args()

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(pathlib.Path(args.model) / "tokenizer.json"))
    settings = json.loads((pathlib.Path(args.model) / "tokenizer_config.json").read_text())
    eos = settings["eos_token"]
    eos = tokenizer.convert_tokens_to_ids(eos if isinstance(eos, str) else eos["content"])
    template = json.loads(pathlib.Path(args.prompt_template).read_text())
    base = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, args.adapter).eval()

    loss, targets = 0.0, 0
    for record in json.loads(pathlib.Path(args.records).read_text()):
        context = record.get("context") or record.get("input") or ""
        form = template["prompt_input"] if context else template["prompt_no_input"]
        prompt = form.format(instruction=record["instruction"], input=context)
        encoded = tokenizer(prompt + (record.get("response") or record.get("output")),
                            return_offsets_mapping=True)
        ids = encoded["input_ids"]
        first = next((i for i, (begin, end) in enumerate(encoded["offset_mapping"])
                      if end > begin >= len(prompt)), len(ids))
        ids = (ids + [eos])[:args.cutoff_len]
        labels = [-100] * min(first, len(ids)) + ids[first:]
        count = sum(label >= 0 for label in labels[1:])
        if count == 0:
            continue
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
        loss += torch.nn.functional.cross_entropy(logits, torch.tensor(labels[1:]),
                                                  ignore_index=-100, reduction="sum").item()
        targets += count
    print(json.dumps({"loss": loss / targets, "labelled_tokens": targets,
                      "torch": torch.__version__, "transformers": transformers.__version__,
                      "peft": peft.__version__}))


if __name__ == "__main__":
    main()
