"""tests/gpu/test_list.py: which test programs are taken to a machine with a GPU,
as CTest knows them.

    test_list.py BUILD

prints a JSON list of {"name", "program", "ranks", "timeout"}: the tests of what computes on a
device or communicates, and the federated run of the real model. Python's standard library only.
"""

import json
import pathlib
import subprocess
import sys

TAKEN = ("tensor/", "comm/communicator", "comm/device_sum", "comm/nccl_link", "comm/shared_memory",
         "federation/order_free_sum", "model/decoder", "model/dense", "model/kv_cache", "train/",
         "app/story_federated")
# Kernels' text run without a GPU, and a meter whose driver is pretended, need their build; memory
# that ranks share needs two ranks.
LEFT_OUT = ("tensor/cuda/", "tensor/energy_meter", "comm/shared_memory.np1")


def describe(test):
    """One CTest entry, or None if it is not a test program of ours."""
    if "command" not in test:
        sys.exit(f"test_list.py: {test['name']} is not built")
    command = test["command"]
    place = next((i for i, word in enumerate(command)
                  if pathlib.PurePath(word).name.startswith("test_")), None)
    if place is None:
        return None
    ranks = 0  # started without mpirun
    if place > 0:
        if "-n" not in command[:place]:
            return None
        ranks = int(command[command.index("-n") + 1])
    properties = {entry["name"]: entry["value"] for entry in test["properties"]}
    return {"name": test["name"], "program": command[place], "ranks": ranks,
            "timeout": properties["TIMEOUT"]}


def test_list(build):
    shown = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], check=True,
                           capture_output=True, text=True)
    tests = [describe(test) for test in json.loads(shown.stdout)["tests"]
             if test["name"].startswith(TAKEN) and not test["name"].startswith(LEFT_OUT)]
    return [test for test in tests if test]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    json.dump(test_list(sys.argv[1]), sys.stdout, indent=1)
