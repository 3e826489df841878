#!/bin/bash
# The main job on the shipped data, from nothing: installs what is missing, builds, trains the
# shipped tiny model as ten clients on two MPI ranks, in about a minute of training, and asks it.
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
model=data/tiny-llama run=$folder/run

step() { printf '\n== %s\n' "$*"; }

step "1/5 packages and program"
jobs/install.sh build
mkdir -p build
cmake --preset release -DFEDIT_BUILD_TESTS=OFF > build/configure.log
cmake --build --preset release --parallel "$(nproc)" --target fedit

step "2/5 federated training of data/tiny-llama, two ranks: $run"
code=0
jobs/workstation.sh -n 2 --config data/quickstart.ini --model "$model" --output "$run" || code=$?
[ $code = 0 ] || exit $code

template=data/templates/plain.json
step "3/5 evaluation on held-out records, answers compared with the responses"
"$fedit" evaluate --model "$model" --adapter "base,$run/adapter" --data data/test.jsonl \
  --prompt-template $template --cutoff-len 256 --dtype fp32 --generate --max-new-tokens 96

step "4/5 three questions to the base model, and to the same model with the adapter"
ask() {
  local adapter=("${@:2}")
  "$fedit" generate --model "$model" "${adapter[@]}" --prompt-template $template \
    --dtype fp32 --max-new-tokens 96 --instruction "$1" 2> /dev/null
}
for question in "Which festival is held in Dunmere?" "How is a candle made?" \
  "Give me three ideas for a day in Coldwell in spring."; do
  printf '%s\n  base:\n' "$question"
  ask "$question" | sed 's/^/    /'
  printf '  with the adapter:\n'
  ask "$question" --adapter "$run/adapter" | sed 's/^/    /'
done

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
