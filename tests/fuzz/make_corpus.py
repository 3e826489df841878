#!/usr/bin/env python3
"""tests/fuzz/make_corpus.py: writes the seeds of the fuzz targets, all of them of our own making.

    make_corpus.py [FOLDER]

FOLDER is tests/fuzz/corpus by default. The same files come out of every run; files that an earlier
finding left there (found_*) stay. Python's standard library only.
"""

import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent.parent / "data"
BAR = "\u2581"


def text(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def safetensors_file(tensors, metadata=None):
    """`tensors`: name -> (dtype, shape, bytes)."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    packed = text(header)
    packed += b" " * (-len(packed) % 8)
    return struct.pack("<Q", len(packed)) + packed + data


def floats(count):
    return struct.pack(f"<{count}f", *(0.25 * i for i in range(count)))


def safetensors():
    sizes = {
        "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2,
        "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
    }  # fmt: skip
    yield "f32", safetensors_file({"weight": ("F32", [2, 3], floats(6))}, {"format": "pt"})
    every = {name: (name, [2], bytes(2 * size)) for name, size in sizes.items()}
    yield "every_type", safetensors_file(every)
    yield "scalar_and_empty", safetensors_file(
        {"a": ("F32", [], floats(1)), "b": ("F32", [0, 9], b""), "c": ("I64", [1], bytes(8))}
    )
    yield "no_tensors", safetensors_file({})
    whole = safetensors_file({"weight": ("F16", [4], bytes(8))})
    yield "cut_off", whole[:-3]
    yield "long_header", struct.pack("<Q", 1 << 40) + whole[8:]
    yield "huge_shape", safetensors_file({"w": ("F32", [1 << 40, 1 << 40], floats(1))})


def shards():
    layer = "model.layers.0."
    first = [
        "model.embed_tokens.weight", layer + "input_layernorm.weight",
        layer + "post_attention_layernorm.weight", layer + "self_attn.q_proj.weight",
        layer + "self_attn.k_proj.weight", layer + "self_attn.v_proj.weight",
    ]  # fmt: skip
    second = [
        layer + "self_attn.o_proj.weight", layer + "mlp.gate_proj.weight",
        layer + "mlp.up_proj.weight", layer + "mlp.down_proj.weight", "model.norm.weight",
        "lm_head.weight",
    ]  # fmt: skip
    where = {name: "a.safetensors" for name in first}
    where.update({name: "b.safetensors" for name in second})
    yield "whole", text({"metadata": {"total_size": 1}, "weight_map": where})
    yield "exchanged", text({"weight_map": {name: "a.safetensors" for name in where}})
    yield "elsewhere", text({"weight_map": {"model.norm.weight": "../b.safetensors", "x": "c"}})
    yield "empty", text({"weight_map": {}})


def byte_alphabet():
    """How byte-level vocabularies spell the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {b: chr(b) for b in plain} | {b: chr(0x100 + i) for i, b in enumerate(rest)}


def added(number, content, **flags):
    return {"id": number, "content": content, "special": False, "normalized": False} | flags


def bpe(vocabulary, merges, **fields):
    ids = {token: number for number, token in enumerate(vocabulary)}
    return {"type": "BPE", "vocab": ids, "merges": merges} | fields


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def sequence(name, *parts):
    return {"type": "Sequence", name: list(parts)}


def characters_tokenizer():
    """As LLaMA-2's: characters with byte fallback."""
    vocabulary = ["<unk>", "<s>", "</s>", BAR, "a", "b", "ab", BAR + "a", BAR + "ab", "<0xC3>"]
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
        "special_tokens": {"<s>": {"ids": [1]}},
    }
    return {
        "added_tokens": [
            added(0, "<unk>", special=True), added(1, "<s>", special=True),
            added(2, "</s>", special=True), added(12, "<x>", lstrip=True, rstrip=True),
            added(13, "<x>y", normalized=True, single_word=True),
        ],
        "normalizer": sequence(
            "normalizers", {"type": "Prepend", "prepend": BAR}, replace(" ", BAR), {"type": "NFC"}
        ),
        "pre_tokenizer": None,
        "post_processor": template,
        "decoder": sequence(
            "decoders", replace(BAR, " "), {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ),
        "model": bpe(
            vocabulary, ["a b", [BAR, "ab"], BAR + " a"], unk_token="<unk>", fuse_unk=True,
            byte_fallback=True, ignore_merges=False,
        ),
    }  # fmt: skip


def bytes_tokenizer():
    """As GPT-2's and LLaMA-3's: the byte alphabet, words by a regular expression."""
    alphabet = byte_alphabet()
    vocabulary = [*alphabet.values(), "ab", "\u0120ab", "<|end|>"]
    words = {
        "type": "Split",
        "pattern": {"Regex": r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"},
        "behavior": "Isolated",
        "invert": False,
    }
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "added_tokens": [added(258, "<|end|>", special=True)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": sequence("pretokenizers", words, level | {"use_regex": False}),
        "post_processor": level,
        "decoder": level,
        "model": bpe(vocabulary, ["a b", "\u0120 ab"], ignore_merges=True),
    }


def metaspace_tokenizer():
    tokenizer = characters_tokenizer()
    metaspace = {"type": "Metaspace", "replacement": BAR, "prepend_scheme": "first", "split": True}
    split = {"type": "Split", "pattern": {"String": "b"}, "behavior": "MergedWithPrevious"}
    tokenizer["normalizer"] = None
    tokenizer["pre_tokenizer"] = sequence("pretokenizers", metaspace, split | {"invert": False})
    tokenizer["decoder"] = None
    tokenizer["post_processor"] = None
    return tokenizer


def tokenizer_json():
    yield "characters", text(characters_tokenizer())
    yield "bytes", text(bytes_tokenizer())
    yield "metaspace", text(metaspace_tokenizer())
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "add_bos_token": True,
        "added_tokens_decoder": {"2": added(2, "</s>", special=True) | {"lstrip": True}},
    }
    yield "with_config", text(characters_tokenizer()) + b"\0" + text(config)


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """A field of a protobuf message: an integer, a float, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6


def sentencepiece(pieces, byte_fallback, **normalizer):
    model = b""
    for content, score, kind in pieces:
        model += field(1, field(1, content.encode()) + field(2, score) + field(3, kind))
    model += field(2, field(3, 2) + field(35, int(byte_fallback)) + field(46, b"<s>"))
    settings = {"name": b"identity", "prefix": 1, "extra": 0, "escape": 1} | normalizer
    return model + field(
        3,
        field(1, settings["name"]) + field(3, settings["prefix"]) + field(4, settings["extra"])
        + field(5, settings["escape"]),
    )  # fmt: skip


def tokenizer_model():
    roles = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    letters = [(BAR, -4.0, NORMAL), ("a", -5.0, NORMAL), ("b", -6.0, NORMAL), ("<x>", 0.0, USER)]
    merged = [("ab", -1.0, NORMAL), (BAR + "ab", -2.0, NORMAL), ("abab", -2.0, NORMAL)]
    small = sentencepiece(roles + letters + merged, False)
    yield "small", small
    bytes_ = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    yield "byte_fallback", sentencepiece(roles + bytes_ + letters + merged, True, prefix=0)
    config = {"bos_token": "<s>", "eos_token": "</s>", "add_eos_token": True, "legacy": False}
    config["added_tokens_decoder"] = {"10": added(10, "<new>", special=True)}
    yield "with_config", text(config) + b"\0" + small
    yield "cut_off", small[:-2]
    yield "long_varint", b"\xff" * 10 + small
    yield "extra_spaces", sentencepiece(roles + letters, False, extra=1, escape=0)
    yield "one_piece", sentencepiece(roles[:1], False)


def config_json():
    llama = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 32, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "hidden_act": "silu",
    }  # fmt: skip
    yield "tiny_llama", (DATA / "tiny-llama" / "config.json").read_bytes()
    scalings = {
        "linear": {"type": "linear", "factor": 2.0},
        "dynamic": {"rope_type": "dynamic", "factor": 2.0},
        "llama3": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        "yarn": {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
            "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.5,
            "truncate": False, "attention_factor": 1.5,
        },
    }  # fmt: skip
    for name, scaling in scalings.items():
        yield name, text(llama | {"rope_scaling": scaling, "rope_theta": 10000.0})
    mistral = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
    yield "mistral", text(llama | mistral | {"sliding_window": 8})
    windows = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    qwen2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    yield "qwen2", text(llama | qwen2 | windows)
    qwen3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8}
    layers = {"layer_types": ["full_attention", "full_attention"], "attention_bias": True}
    yield "qwen3", text(llama | qwen3 | layers | {"rope_parameters": {"rope_theta": 1e6}})
    yield "large", text(llama | {"hidden_size": 1 << 24, "num_hidden_layers": 4096})


def adapter():
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4,
        "lora_dropout": 0.05, "target_modules": ["q_proj"], "bias": "none",
        "base_model_name_or_path": "base", "init_lora_weights": True,
    }  # fmt: skip

    def tensors(rank, layers=(0, 1)):
        found = {}
        for layer in layers:
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_"
            found[name + "A.weight"] = ("F32", [rank, 4], floats(rank * 4))
            found[name + "B.weight"] = ("F32", [4, rank], floats(rank * 4))
        return safetensors_file(found)

    yield "plain", text(config) + b"\0" + tensors(2)
    pattern = {"target_modules": r"model\.layers\.1\..*q_proj", "use_rslora": True}
    yield "by_pattern", text(config | pattern) + b"\0" + tensors(2, (1,))
    ranks = {"rank_pattern": {"q_proj": 1}, "alpha_pattern": {r"layers\.0\..*": 3}}
    yield "rank_pattern", text(config | ranks) + b"\0" + tensors(1)
    yield "large_rank", text(config | {"r": 1 << 20}) + b"\0" + tensors(2)
    yield "all_linear", text(config | {"target_modules": "all-linear"}) + b"\0" + tensors(2)
    yield "dora", text(config | {"use_dora": True, "modules_to_save": ["lm_head"]})


def records():
    with (DATA / "instructions.jsonl").open(encoding="utf-8") as file:
        lines = [next(file) for _ in range(4)]
    yield "lines", "".join(lines).encode()
    yield "array", text([json.loads(line) for line in lines[:2]])
    choices = {"instruction": "Which?", "choices": ["one", "two"], "answer": 1, "category": "c"}
    yield "choices", text([choices, choices | {"answer": "one", "output": "one"}])
    yield "plain_text", text({"text": "A text."}) + b"\r\n\n" + text({"text": ""})
    ids = {"input_ids": [1, 5, 6, 2], "labels": [-100, -100, 6, 2]}
    yield "tokens", text(ids) + b"\n" + text({"input_ids": [7, 8, 9], "first_label": 1})
    yield "byte_order_mark", b"\xef\xbb\xbf" + text({"instruction": "i", "response": "r"})


def prompt():
    for path in sorted((DATA / "templates").glob("*.json")):
        yield path.stem, path.read_bytes() + b"\0What?\0A text."
    braces = {
        "prompt_input": "{{{instruction}}} {input}{instruction}",
        "prompt_no_input": "}}{instruction}{{",
        "response_split": "",
    }
    yield "braces", text(braces) + b"\0{input}\0{instruction}"
    yield "unknown", text(braces | {"prompt_input": "{instruction} {other} {"})


def ini():
    yield "quickstart", (DATA / "quickstart.ini").read_bytes()
    yield "quotes", b'model = "a b\\t\\"c\\""\r\n# no setting\n\n seed=7\nlearning-rate = 1e-3\n'
    yield "faults", b'seed = 1\nseed = 2\nno-such-name = 3\nrounds = -1\nmodel = "open\n= 4\n'


CORPORA = (
    safetensors, shards, tokenizer_json, tokenizer_model, config_json, adapter, records, prompt,
    ini,
)  # fmt: skip


def main(arguments):
    root = pathlib.Path(arguments[0]) if arguments else HERE / "corpus"
    for corpus in CORPORA:
        folder = root / corpus.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not old.name.startswith("found_"):
                old.unlink()
        for name, content in corpus():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main(sys.argv[1:])
