#!/bin/bash
# Makes the shipped tiny model's weights: a random LLaMA reads plain text about Wendle Vale
# (make_corpus.py), all its weights trained by `fedit train --mode centralized --tune full`.
#   data/make_tiny_model.sh WORK_FOLDER [--install]
# --install  puts the weights, as bf16, into data/tiny-llama
# FEDIT names the program (default: the release build of this tree). About ten minutes on one free
# core. Killed or stopped, the same command goes on.
set -euo pipefail
if [ $# -lt 1 ] || [[ $1 == -* ]]; then
  sed -n '2,8s/^# \?//p' "${BASH_SOURCE[0]}"
  exit 2
fi
work=$(realpath -m "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fedit=${FEDIT:-$PWD/build/release/src/app/fedit}

mkdir -p "$work"
python3 data/make_corpus.py --output "$work/corpus.jsonl"
head -n 19800 "$work/corpus.jsonl" > "$work/train.jsonl"
tail -n 200 "$work/corpus.jsonl" > "$work/held_out.jsonl"

if [ ! -e "$work/random/config.json" ]; then
  "$fedit" init --model-config data/tiny-llama/config.json --seed 1 --output "$work/random"
fi
cp data/tiny-llama/{tokenizer,tokenizer_config,generation_config}.json "$work/random"

"$fedit" train --model "$work/random" --data "$work/train.jsonl" \
  --eval-data "$work/held_out.jsonl" --mode centralized --tune full --output "$work/run" \
  --rounds 3 --local-epochs 1 --batch-size 32 --micro-batch-size 32 --cutoff-len 256 \
  --learning-rate 2e-3 --lr-scheduler cosine --lr-scope run --warmup-steps 100 \
  --weight-decay 0.01 --max-grad-norm 1 --threads 1 --dtype fp32 --seed 1

rm -rf "$work/model"
"$fedit" export --adapter "$work/run" --merge --model "$work/random" --save-dtype bf16 \
  --output "$work/model"
if [ "${2:-}" = --install ]; then
  cp "$work/model/model.safetensors" data/tiny-llama/
fi
echo "the model: $work/model"
