#!/bin/bash
# Installs what is missing, builds, and runs the tests. The last line counts them; the exit code is
# 0 only if tests ran and none failed.
#   tests/run.sh [--quick] [--strict] [--preset NAME]
# --quick   without the tests labelled slow and slurm
# --strict  warnings are errors
# --preset  dev, release (default), cuda, asan, tsan or audit
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=release labels=() strict=OFF
while [ $# -gt 0 ]; do
  case $1 in
    --quick) labels=(--label-exclude '^(slow|slurm)$') ;;
    --strict) strict=ON ;;
    --preset) preset=${2:?--preset needs a name}; shift ;;
    *) sed -n '2,7s/^# \?//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
  shift
done

jobs/install.sh tests
jobs/install.sh python
cmake --preset "$preset" -DFEDIT_BUILD_TESTS=ON -DFEDIT_WARNINGS_AS_ERRORS=$strict \
  -DFEDIT_PYTHON="$PWD/build/venv/bin/python"
cmake --build --preset "$preset" --parallel "$(nproc)"

results=$PWD/build/$preset/test_results.xml
rm -f "$results"
code=0
# One more than there are cores: runs that are killed or stopped mostly wait.
ctest --test-dir "build/$preset" --parallel "$(($(nproc) + 1))" --output-on-failure \
  --no-tests=error --output-junit "$results" --test-output-size-passed 1000000 "${labels[@]}" \
  < /dev/null || code=$?

build/venv/bin/python - "$results" << 'END' || code=1
import re
import sys
from xml.etree import ElementTree

suite = ElementTree.parse(sys.argv[1]).getroot()
total, failed, skipped = (int(suite.get(name)) for name in ("tests", "failures", "skipped"))
not_run = int(suite.get("disabled"))
for case in suite.iter("testcase"):
    output = (case.findtext("system-out") or "").strip()
    if case.find("skipped") is not None:
        print(f"skipped: {case.get('name')}: {(output.splitlines() or ['no reason given'])[-1]}")
    for reason in re.findall(r": Skipped\n(.*)\n", output):  # one of the checks inside
        print(f"skipped in part: {case.get('name')}: {reason}")
passed = total - failed - skipped - not_run
print(f"{passed} passed, {failed} failed, {skipped + not_run} skipped")
sys.exit(passed == 0 or failed > 0)
END
exit $code
