#!/bin/bash
# The end of a round with the adapter of LLaMA-2-7B, rank 16 on all linear layers: 40 million
# numbers, 160 MB; each rank adds a client's update, the ranks sum, the global adapter moves.
#   bench/aggregation.sh FEDIT [RANKS] [more options of fedit bench]
set -euo pipefail
fedit=$1 ranks=${2:-4}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ "$(id -u)" != 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun --bind-to none --oversubscribe -n "$ranks" "$fedit" bench --threads 1 --steps 5 \
  --model-config "$here/models/llama-2-7b.json" --lora-r 16 --lora-target-modules all-linear \
  "${@:3}"
