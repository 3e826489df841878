#!/bin/bash
# Runs on the machine with the GPU, from the unpacked bundle (tests/gpu/bundle.sh) or from the tree:
# all checks that need a GPU, and one result file.
#   run.sh [--output FOLDER] [--only LIST] [--skip LIST] [--device cpu] [--limit S]
#          [--jobs N] [--quick] [--list]
# --output       where results.json, results.txt and the logs go (default: gpu-results)
# --only, --skip checks by name, by comma; --list names them
# --device cpu   for a machine without a GPU: the CPU stands in where it can; the rest is named
# --limit        seconds after which a command that hangs is killed (default: 600)
# --jobs         tests that run side by side, sharing the card (default: 1)
# --quick        fewer repetitions, small benchmarks only
# Ends with 0 only if every check that was to run ran and passed. Needs python3 (standard library).
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
if ! command -v python3 > /dev/null; then
  echo "run.sh: python3 is needed to compare results" >&2
  exit 2
fi
if [ -d "$here/libexec" ]; then  # in a bundle
  exec python3 -B "$here/share/tree/tests/gpu/checks.py" --bundle "$here" "$@"
fi
exec python3 -B "$here/checks.py" "$@"
