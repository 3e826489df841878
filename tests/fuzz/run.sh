#!/bin/bash
# Builds the fuzz targets with clang and runs them, in turns of at most five minutes, until each has
# had its CPU time; the corpora grow in build/fuzz/corpus. Ends with 1 if an input was found that a
# reader does not take as it must, and says where the input lies.
#   tests/fuzz/run.sh [MINUTES] [--jobs N] [--build FOLDER] [--continue] [--only TARGET]...
# MINUTES     of CPU time for each target (default 60)
# --jobs      targets that run at once (default 1)
# --build     another build folder than build/fuzz
# --continue  counts on from the times of the last run, which was interrupted or shorter
# --only      this target alone; may be given several times
# A target with a finding rests. Once it is mended and built, remove runs/TARGET.* in the build
# folder, and a run that still goes on takes it up again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
minutes=60 jobs=1 build=build/fuzz continues=no targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --jobs) jobs=${2:?--jobs needs a number}; shift ;;
    --build) build=${2:?--build needs a folder}; shift ;;
    --continue) continues=yes ;;
    --only) targets+=("${2:?--only needs a target}"); shift ;;
    -* | *[!0-9]*) sed -n '2,13s/^# \?//p' "${BASH_SOURCE[0]}"; exit 2 ;;
    *) minutes=$1 ;;
  esac
  shift
done
command -v clang++ > /dev/null || {
  echo "run.sh: clang++ is missing; on Debian: apt-get install clang" >&2
  exit 1
}

mkdir -p "$build"
cmake --preset fuzz -B "$build" > "$build/build.log"
cmake --build "$build" --parallel "$(nproc)" >> "$build/build.log" 2>&1 || {
  tail -n 40 "$build/build.log" >&2
  exit 1
}
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls tests/fuzz/corpus)
mkdir -p "$build/runs" "$build/findings"
for target in "${targets[@]}"; do
  [ "$continues" = yes ] || rm -f "$build/runs/$target".*
done

# runs/TARGET.total: seconds, CPU seconds, executions and edges so far.
total_of() {
  cat "$build/runs/$1.total" 2> /dev/null || echo 0 0 0 0
}

cpu_left_of() {
  total_of "$1" | awk -v all="$((minutes * 60))" '{print (all > $2 ? int(all - $2 + 1) : 0)}'
}

run_turn() {
  local log=$build/runs/$1.log left code=0 executions edges
  left=$(cpu_left_of "$1")
  mkdir -p "$build/corpus/$1"
  TIMEFORMAT='%R %U %S'
  { time nice -n 19 "$build/tests/fuzz/fuzz_$1" "$build/corpus/$1" "tests/fuzz/corpus/$1" \
    -dict="tests/fuzz/dict/$1.dict" -artifact_prefix="$build/findings/$1-" \
    -max_total_time="$((left < 300 ? left : 300))" -timeout=5 -rss_limit_mb=1024 -max_len=8192 \
    -print_final_stats=1 > "$log" 2>&1 || code=$?; } 2> "$build/runs/$1.time"
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  edges=$(grep -o ' cov: [0-9]*' "$log" | tail -n 1 | tr -dc 0-9) || edges=0
  cat <(total_of "$1") "$build/runs/$1.time" |
    awk -v executions="${executions:-0}" -v edges="$edges" '
      NR == 1 {wall = $1; cpu = $2; executions += $3}
      NR == 2 {print int(wall + $1), int(cpu + $2 + $3), executions, edges}' \
      > "$build/runs/$1.new"
  mv "$build/runs/$1.new" "$build/runs/$1.total"
  # libFuzzer ends with 72 if it was interrupted.
  case $code in 0 | 72) return ;; esac
  sed -n 's/.*Test unit written to //p' "$log" | grep . > "$build/runs/$1.finding" ||
    echo "$log" > "$build/runs/$1.finding"
}
export -f run_turn total_of cpu_left_of
export build minutes

while true; do
  pending=()
  for target in "${targets[@]}"; do
    [ -e "$build/runs/$target.finding" ] || [ "$(cpu_left_of "$target")" = 0 ] ||
      pending+=("$target")
  done
  [ ${#pending[@]} -gt 0 ] || break
  printf '%s\n' "${pending[@]}" | xargs -P "$jobs" -I{} bash -c 'run_turn {}'
done

code=0
printf '%-16s %8s %8s %12s %7s  %s\n' target seconds CPU executions edges findings
for target in "${targets[@]}"; do
  finding=none
  if [ -e "$build/runs/$target.finding" ]; then
    code=1
    finding=$(cat "$build/runs/$target.finding")
  fi
  # shellcheck disable=SC2046  # four numbers
  printf '%-16s %8s %8s %12s %7s  %s\n' "$target" $(total_of "$target") "$finding"
done
exit $code
