#!/bin/bash
# Stops what slurm_start.sh started in WORK, and nothing else: jobs first, then the daemons, then
# what is left.
#   slurm_stop.sh WORK [--delete]
set -uo pipefail
if [ $# -lt 1 ] || [ ! -e "$1/.private-slurm" ]; then
  sed -n '3p' "$0" | cut -c3- >&2
  exit 2
fi
work=$(cd "$1" && pwd)
export SLURM_CONF=$work/slurm.conf

# Daemons by their mark, job processes by SLURM_CONF with SLURM_JOB_ID, slurmstepd (which overwrites
# its environment) by its working folder. Never by name alone.
ours() {
  {
    grep -lzxF "PRIVATE_SLURM=$work" /proc/[0-9]*/environ
    grep -lzxF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ | xargs -r grep -lz '^SLURM_JOB_ID='
    find /proc/[0-9]*/cwd -maxdepth 0 -lname "$work/log" | while read -r folder; do
      grep -l '^slurm' "${folder%cwd}comm"
    done
  } 2> /dev/null | cut -d/ -f3 | sort -u
}
all_gone() {  # argument: tenths of a second to wait
  for _ in $(seq "$1"); do
    [ -n "$(ours)" ] || return 0
    sleep 0.1
  done
  return 1
}

if timeout 5 scontrol ping > /dev/null 2>&1; then
  timeout 5 scancel --state=PENDING -u root
  timeout 5 scancel --full --signal=KILL -u root
  timeout 5 scancel -u root
  for _ in $(seq 30); do
    [ -n "$(timeout 5 squeue -h 2> /dev/null)" ] || break
    sleep 0.1
  done
  timeout 5 scontrol shutdown > /dev/null 2>&1
  for _ in $(seq 50); do
    [ -n "$(ls "$work/run")" ] || break
    sleep 0.1
  done
fi
for file in "$work"/run/*.pid "$work/munge/pid"; do
  pid=$(cat "$file" 2> /dev/null)
  if grep -qzxF "PRIVATE_SLURM=$work" "/proc/${pid:-none}/environ" 2> /dev/null; then
    kill "$pid"
  fi
done
if ! all_gone 30; then
  echo "killing what is left: $(ours | tr '\n' ' ')"
  # shellcheck disable=SC2046  # one word a process
  kill -KILL $(ours) 2> /dev/null
  all_gone 30 || exit 1
fi
rm -f "$work"/run/*.pid "$work/munge/pid" "$work/munge/socket"
[ "${2:-}" != --delete ] || rm -rf "$work"
