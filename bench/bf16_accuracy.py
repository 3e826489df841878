#!/usr/bin/env python3
"""Measures how far PyTorch's bf16 run of each operation of the decoder is from the same operation
in double, on operands that the test of the CUDA kernels makes too.

    bf16_accuracy.py [--kernels TEST_PROGRAM]

Needs torch, transformers, numpy; no GPU. An error is the root of the sum of squared differences,
relative to that of the result in double. Adapters run under autocast, their weights in fp32, as the
paper's code trains. --kernels: tests/tensor/cuda/test_tensor_cuda_accuracy of a build; its errors
go beside PyTorch's. Prints a table in Markdown.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
import transformers
from torch.nn import functional
from transformers.models.llama import modeling_llama

EPS = 1e-5
HEADS, KV_HEADS, TOKENS = 4, 2, 96


def operand(rows, cols, stream, scale=1.0):
    """Nearly normal values: sums of four uniform ones, SplitMix64 of (stream, place), in bf16."""
    with np.errstate(over="ignore"):
        at = np.arange(4 * rows * cols, dtype=np.uint64) + np.uint64(stream << 32)
        z = (at + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    uniform = (z >> np.uint64(40)).astype(np.float64) * 2.0**-24
    values = (uniform.reshape(-1, 4).sum(axis=1) - 2) * np.sqrt(3.0) * scale
    return torch.from_numpy(values.reshape(rows, cols)).float().bfloat16()


def leaf(tensor, dtype):
    return tensor.detach().to(dtype).requires_grad_()


def rms_norm(dtype):
    x, gain = leaf(operand(64, 1024, 1), dtype), operand(1, 1024, 2)[0]
    # In double by hand, because the model's own code turns to fp32 inside.
    if dtype == torch.float64:
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * gain.double()
    else:
        norm = modeling_llama.LlamaRMSNorm(1024, EPS).to(dtype)
        norm.weight.data.copy_(gain)
        y = norm(x)
    y.backward(operand(64, 1024, 3).to(dtype))
    return {"rms_norm y": y, "rms_norm dx": x.grad}


def rope(dtype):
    x, d = operand(TOKENS, HEADS * 64, 4).to(dtype), 64
    frequencies = (10000.0 ** (-2.0 * torch.arange(d // 2, dtype=torch.float64) / d)).float()
    if dtype == torch.float64:
        angles = torch.arange(TOKENS)[:, None] * frequencies.double()
        cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
    else:
        config = transformers.LlamaConfig(hidden_size=HEADS * d, num_attention_heads=HEADS)
        table = modeling_llama.LlamaRotaryEmbedding(config)
        cos, sin = (t[0] for t in table(x, torch.arange(TOKENS)[None]))
    heads = x.view(1, TOKENS, HEADS, d).transpose(1, 2)
    turned, _ = modeling_llama.apply_rotary_pos_emb(heads, heads, cos[None], sin[None])
    return {"rope y": turned.transpose(1, 2).reshape(TOKENS, HEADS * d)}


def swiglu(dtype):
    gate, up = leaf(operand(64, 512, 5, 3), dtype), leaf(operand(64, 512, 6), dtype)
    y = functional.silu(gate) * up
    y.backward(operand(64, 512, 7).to(dtype))
    return {"swiglu y": y, "swiglu dgate": gate.grad, "swiglu dup": up.grad}


def attention(head_dim, dtype):
    q, k, v = (leaf(operand(TOKENS, heads * head_dim, 8 + i), dtype)
               for i, heads in enumerate((HEADS, KV_HEADS, KV_HEADS)))
    heads = [m.view(1, TOKENS, -1, head_dim).transpose(1, 2) for m in (q, k, v)]
    out = functional.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True)
    out = out.transpose(1, 2).reshape(TOKENS, -1)
    out.backward(operand(TOKENS, HEADS * head_dim, 11).to(dtype))
    name = f"attention of {head_dim}"
    return {f"{name} out": out, f"{name} dq": q.grad, f"{name} dk": k.grad, f"{name} dv": v.grad}


def lora(dtype):
    x, y = leaf(operand(70, 256, 12), dtype), operand(70, 192, 13).to(dtype)
    weights = torch.float64 if dtype == torch.float64 else torch.float32
    a, b = leaf(operand(16, 256, 14, 0.25), weights), leaf(operand(192, 16, 15, 0.25), weights)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float64):
        y = y + functional.linear(functional.linear(x, a), b) * 2.0
    y.backward(operand(70, 192, 16).to(dtype))
    return {"lora y": y, "lora dx": x.grad, "lora da": a.grad, "lora db": b.grad}


def cross_entropy(dtype):
    logits = leaf(operand(16, 2000, 17, 5), dtype)
    targets = torch.arange(16) * 7919 % 2000
    # The model's loss turns logits to fp32 first.
    wide = logits if dtype == torch.float64 else logits.float()
    functional.cross_entropy(wide, targets, reduction="sum").backward()
    return {"cross_entropy dlogits": logits.grad}


def bias_gradient(dtype):
    bias = leaf(torch.zeros(128), dtype)
    (operand(300, 128, 18).to(dtype) + bias).backward(operand(300, 128, 18).to(dtype))
    return {"bias db": bias.grad[None]}


OPERATIONS = [rms_norm, rope, swiglu, lambda dtype: attention(64, dtype),
              lambda dtype: attention(128, dtype), lora, cross_entropy, bias_gradient]


def errors():
    found = {}
    for operation in OPERATIONS:
        exact = operation(torch.float64)
        for name, got in operation(torch.bfloat16).items():
            want = exact[name].detach()
            found[name] = float((got.detach().double() - want).norm() / want.norm())
    return found


def errors_of_kernels(program):
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        subprocess.run([program, f"--gtest_output=json:{report}"], check=True, cwd=folder,
                       stdout=subprocess.DEVNULL)
        suites = json.loads(report.read_text())["testsuites"]
    return {name.replace("_of_", " of ").replace("__", " "): float(value)
            for suite in suites for test in suite["testsuite"] for name, value in test.items()
            if "__" in name}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=pathlib.Path)
    args = parser.parse_args()
    kernels = errors_of_kernels(args.kernels.resolve()) if args.kernels else {}
    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n")
    print("| operation | PyTorch bf16 | kernel | ratio |\n|---|---|---|---|")
    for name, error in errors().items():
        ours = kernels.get(name)
        told = f"{ours:.2e} | {ours / error:.2f}" if ours is not None else "- | -"
        print(f"| {name} | {error:.2e} | {told} |")


if __name__ == "__main__":
    main()
