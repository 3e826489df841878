#!/bin/bash
# Runs `fedit train` on this machine with several ranks.
#   jobs/workstation.sh [-n RANKS] [options of fedit train]
#   jobs/workstation.sh -n 4 --config my.ini --output runs/first
# Ctrl-C, or `kill PID` of this script, asks the run to save itself and end with code 75; the same
# command goes on from there, on any number of ranks. So does it after a crash. Ends with fedit's
# code: 0 done, 1 failure, 2 bad input, 75 stopped on request.
# FEDIT names the program (default: this tree's build for CUDA, or else the release build). With
# GPUs, start a rank a card (-n); ranks take the cards in turn, CUDA_VISIBLE_DEVICES=1,3 names those
# to use.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fedit=${FEDIT:-$root/build/release/src/app/fedit}
if [ -z "${FEDIT:-}" ] && [ -x "$root/build/cuda/src/app/fedit" ]; then
  fedit=$root/build/cuda/src/app/fedit
fi

ranks=2
if [ "${1:-}" = -n ]; then
  ranks=${2:-}
  shift 2 || shift
fi
if ! [[ $ranks =~ ^[1-9][0-9]*$ ]] || [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
  sed -n '2,10s/^# \?//p' "${BASH_SOURCE[0]}"
  exit 2
fi
if ! command -v "$fedit" > /dev/null; then
  echo "workstation.sh: no program at $fedit; build it (jobs/quickstart.sh does) or set FEDIT" >&2
  exit 2
fi

# mpirun refuses root, which is what one is in a container.
if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# Behind mpirun a rank does not see the terminal, so the moving progress line is asked for from
# here.
if [ -t 2 ] && "$fedit" train "$@" --dump-config 2> /dev/null | grep -qx 'progress = auto'; then
  set -- "$@" --progress live
fi

# A rank's threads wait for each other many times a step. They sleep while they wait, since a thread
# that spins beside other programs takes the core that the awaited thread needs; on a machine with
# nothing else to do, OMP_WAIT_POLICY=active may be a little faster.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

# On TERM or Ctrl-C mpirun itself kills its ranks after one second, too soon for them to save a
# half-trained client. (OMPI_MCA_odls_base_sigkill_timeout would give them longer, but then every
# failed run hangs for that time.) So mpirun gets a session of its own, where the terminal's Ctrl-C
# does not reach it, and hears USR1, which it passes on. --bind-to none: else each rank is held to a
# single core.
setsid mpirun --bind-to none --oversubscribe -n "$ranks" "$fedit" train "$@" < /dev/null &
mpirun=$!
ask_to_stop() {
  echo "workstation.sh: stopping; the run saves itself first" >&2
  kill -USR1 "$mpirun" 2> /dev/null
}
trap ask_to_stop INT TERM USR1 HUP

wait "$mpirun"
code=$?
while kill -0 "$mpirun" 2> /dev/null; do  # `wait` was cut short by a signal
  wait "$mpirun"
  code=$?
done
if [ "$code" = 75 ]; then
  echo "workstation.sh: stopped on request, nothing is lost; the same command goes on from here" >&2
fi
exit "$code"
