#!/bin/bash
# The real run: story-656k on Dolly's ten clients, half of them sampled, five rounds, two ranks;
# then the adapter evaluated here and in PEFT.
#   bench/real_run.sh FEDIT SHARED OUTPUT [PYTHON]
# PYTHON must have torch, transformers, peft and safetensors. Writes OUTPUT/real_run.txt.
set -euo pipefail
fedit=$1 shared=$2 output=$3 python=${4:-python3}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
model=$shared/data/models/story-656k template=$shared/data/prompts/alpaca.json
data=$shared/data/dolly-15k/clients-10
mkdir -p "$output"
{
  mpirun --bind-to none -n 2 "$fedit" train --model "$model" --data "$data" \
    --prompt-template "$template" --num-clients 10 --client-fraction 0.5 --rounds 5 \
    --local-epochs 1 --batch-size 32 --micro-batch-size 8 --learning-rate 1e-3 \
    --lora-target-modules all-linear --lora-r 8 --threads 1 --output "$output/run" --progress plain
  "$fedit" evaluate --model "$model" --adapter "$output/run/adapter" --data "$data" \
    --prompt-template "$template" --output-format json
  "$python" "$here/peft_check.py" --model "$model" --adapter "$output/run/adapter" \
    --records "$data/global_test.json" --prompt-template "$template"
} 2>&1 | tee "$output/real_run.txt"
