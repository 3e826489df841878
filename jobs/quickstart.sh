#!/bin/bash
# The main job on the shipped data, from nothing: installs what is missing, builds, makes a tiny
# model and trains it as ten clients on two MPI ranks, in under a minute of training.
#   jobs/quickstart.sh [FOLDER]        (default ./quickstart-run; all results go there)
# Killed or stopped with Ctrl-C, the same command goes on; finished, it says so.
set -euo pipefail
if [ $# -gt 1 ] || [[ ${1:-} == -* ]]; then
  sed -n '2,5s/^# \?//p' "${BASH_SOURCE[0]}"
  exit 2
fi
folder=$(realpath -m "${1:-quickstart-run}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fedit=build/release/src/app/fedit
model=$folder/model run=$folder/run

step() { printf '\n== %s\n' "$*"; }

step "1/5 packages and program"
jobs/install.sh build
mkdir -p build
cmake --preset release -DFEDIT_BUILD_TESTS=OFF > build/configure.log
cmake --build --preset release --parallel "$(nproc)" --target fedit

step "2/5 a tiny model with random weights, and its tokenizer: $model"
if [ ! -e "$model/config.json" ]; then
  "$fedit" init --model-config data/tiny-llama/config.json --seed 1 --output "$model"
fi
cp data/tiny-llama/{tokenizer,tokenizer_config,generation_config}.json "$model"

step "3/5 federated training, two ranks: $run"
code=0
jobs/workstation.sh -n 2 --config data/quickstart.ini --model "$model" --output "$run" || code=$?
[ $code = 0 ] || exit $code

step "4/5 evaluation on held-out records"
evaluate() {  # with the prompts of data/quickstart.ini
  "$fedit" evaluate --model "$model" --data data/test.jsonl \
    --prompt-template data/templates/plain.json --cutoff-len 256 "$@"
}
printf 'the base model:\n'
evaluate
printf '\nwith the adapter:\n'
evaluate --adapter "$run/adapter"

step "5/5 the report: $folder/report.html"
jobs/install.sh python
build/venv/bin/fedit-report "$run" -o "$folder/report.html"

step "done"
cat <<END
adapter      $run/adapter/   (PeftModel.from_pretrained loads it)
checkpoints  $run/checkpoints/
log          $run/run.h5
settings     $run/config.ini
report       $folder/report.html   (one page; open it in a browser)

Run the same command again and it finds the run finished. Your own run:
  jobs/workstation.sh -n 2 --model MODEL --data RECORDS.jsonl --output FOLDER
END
