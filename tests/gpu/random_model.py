"""tests/gpu/random_model.py: a model folder with random bf16 weights of any size, written as fast
as the disk takes it.

The values repeat one block of random numbers: how fast products run depends on their bits being
random, not on their being different. Python's standard library only.
"""

import array
import json
import math
import pathlib
import random

BLOCK = 1 << 24  # bytes of random weights that are repeated
SHARD = 4 << 30  # bytes, about, of one file


def tensors(config):
    """(name, shape, is it a gain of a norm) of every tensor of a LLaMA."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    width = hidden // heads
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden), False
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", (hidden,), True
        yield at + "self_attn.q_proj.weight", (heads * width, hidden), False
        yield at + "self_attn.k_proj.weight", (kv_heads * width, hidden), False
        yield at + "self_attn.v_proj.weight", (kv_heads * width, hidden), False
        yield at + "self_attn.o_proj.weight", (hidden, heads * width), False
        yield at + "post_attention_layernorm.weight", (hidden,), True
        yield at + "mlp.gate_proj.weight", (inner, hidden), False
        yield at + "mlp.up_proj.weight", (inner, hidden), False
        yield at + "mlp.down_proj.weight", (hidden, inner), False
    yield "model.norm.weight", (hidden,), True
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden), False


def random_block(deviation):
    """BLOCK bytes of bf16, uniform with the given standard deviation."""
    stream = random.Random(1)
    half = array.array("f", (stream.uniform(-1.732, 1.732) * deviation for _ in range(1 << 20)))
    upper = half.tobytes()  # fp32; bf16 is the upper two of its four bytes
    short = bytearray(len(upper) // 2)
    short[0::2], short[1::2] = upper[2::4], upper[3::4]
    return bytes(short) * (BLOCK // len(short))


def shards(config):
    """The tensors in groups of about SHARD bytes."""
    group, size = [], 0
    for name, shape, is_gain in tensors(config):
        count = 2 * math.prod(shape)
        if group and size + count > SHARD:
            yield group
            group, size = [], 0
        group.append((name, shape, is_gain, count))
        size += count
    yield group


def write_shard(path, group, block):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _, count in group:
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, is_gain, count in group:
            if is_gain:
                file.write(b"\x80\x3f" * (count // 2))  # ones
                continue
            for first in range(0, count, BLOCK):
                file.write(block[: min(BLOCK, count - first)])


def write_model(config_file, folder):
    """Writes `folder` for a config.json; gives the number of bytes."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    text = pathlib.Path(config_file).read_text(encoding="utf-8")
    config = json.loads(text)
    (folder / "config.json").write_text(text, encoding="utf-8")
    block = random_block(config["initializer_range"])
    groups = list(shards(config))
    places, total = {}, 0
    for number, group in enumerate(groups, 1):
        name = f"model-{number:05}-of-{len(groups):05}.safetensors"
        write_shard(folder / name, group, block)
        places.update({tensor[0]: name for tensor in group})
        total += sum(tensor[3] for tensor in group)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return total
