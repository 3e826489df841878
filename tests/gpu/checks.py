"""tests/gpu/checks.py: the checks that a machine with a GPU is for (tests/gpu/run.sh).

Every check passes, fails, or is left out for a reason that the result names; a check that was to
run and could not is a failure. Python's standard library only.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from programs import Failed, LeftOut, Programs, adapter_bytes, read_json  # noqa: E402
from benchmarks import bench_adapter_sum, bench_model  # noqa: E402

CHECKS = []


def check(name, needs_gpu=False):
    """Without `needs_gpu`, a CPU can stand in, so that the check itself is tried without a card."""
    def register(function):
        CHECKS.append((name, needs_gpu, function))
        return function
    return register


@check("machine")
def machine(p):
    """What is here; with a GPU, that the program can use it."""
    doctor = p.doctor()
    facts = {"host": platform.node(), "kernel": platform.release(),
             "glibc": platform.libc_ver()[1], "doctor": doctor}
    if p.gpu:
        facts["nvidia_smi"] = p.run("machine", [
            "nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit",
            "--format=csv"]).strip().splitlines()
        if not doctor["cuda"]:
            raise Failed("doctor finds no CUDA device that the program can use", facts)
    return facts


@check("tests")
def tests(p):
    """Every test program; with a GPU none may skip anything, and the twins must have run."""
    counts = p.run_tests(p.tests)
    facts = {**counts, "programs": len(p.tests)}
    if counts["failed"]:
        raise Failed(f"{len(counts['failed'])} tests failed: {', '.join(counts['failed'])}", facts)
    if counts["passed"] == 0:
        raise Failed("no test ran", facts)
    if p.gpu and counts["skipped"]:
        raise Failed(f"{len(counts['skipped'])} tests were skipped on a machine with a GPU", facts)
    if p.gpu and counts["on_gpu"] == 0:
        raise Failed("no test of an operation ran on the GPU", facts)
    return facts


@check("story-federated")
def story_federated(p):
    """Three federated rounds of the real model in fp32 equal the independent implementation."""
    story = [test for test in p.tests if test["name"] == "app/story_federated"]
    if not story:
        raise Failed("the test app/story_federated is not in this bundle")
    counts = p.run_tests(story, {"FEDIT_TEST_DEVICE": p.device})
    if counts["failed"] or counts["skipped"] or not counts["passed"]:
        raise Failed("the run differs from the fixtures, or did not run", counts)
    return counts


@check("story-evaluate")
def story_evaluate(p):
    """Losses of real records by category: fp32 to 1e-6, bf16 to 1e-2 of the fixture's."""
    tolerances = {"fp32": 1e-6, "bf16": 1e-2}
    fixture = read_json(p.story_fixture.read_text(encoding="utf-8"))["response_only"]
    facts = {"want": fixture["loss"]}
    for dtype in p.dtypes:
        got = read_json(p.run("story-evaluate", [
            p.fedit, "evaluate", "--model", p.story_model, "--data", p.story_records,
            "--prompt-template", p.alpaca, "--cutoff-len", "512", "--device", p.device,
            "--dtype", dtype, "--output-format", "json"]))
        facts[dtype] = got["loss"]
        for name, want in [("all", fixture), *fixture["by_category"].items()]:
            mine = got if name == "all" else got["by_category"][name]
            if abs(mine["loss"] - want["loss"]) > tolerances[dtype] * want["loss"]:
                raise Failed(f"{dtype}, {name}: loss {mine['loss']}, expected {want['loss']}",
                             facts)
    return facts


@check("story-generate")
def story_generate(p):
    """Greedy answers through the key cache, token for token as the fixture has them."""
    cases = read_json(p.story_fixture.read_text(encoding="utf-8"))["generate"]
    for case in cases:
        got = read_json(p.run("story-generate", [
            p.fedit, "generate", "--model", p.story_model, "--prompt", case["prompt"],
            "--max-new-tokens", str(len(case["new_ids"])), "--device", p.device, "--dtype",
            "fp32", "--output-format", "json"]))
        want = case["new_ids"][:len(got["new_ids"])]
        if got["new_ids"] != want or not want:
            raise Failed(f"{case['prompt']!r}: {got['new_ids']}, expected {want}")
    return {"prompts": len(cases)}


@check("bits-on-one-card")
def bits_on_one_card(p):
    """The adapter's bytes: twice, on two ranks that share the card, and after a resume."""
    facts = {}
    p.forget_runs()
    for dtype in p.dtypes:
        def train(name, ranks, rounds=2):
            return p.train(f"{dtype}-{name}", ranks, "--dtype", dtype, rounds=rounds)
        once, _ = train("once", 1)
        again, _ = train("again", 1)
        shared, said_shared = train("two-ranks", 2)
        train("resumed", 1, rounds=1)
        resumed, said_resumed = train("resumed", 2)
        if "round 2/2" not in said_resumed or "round 1/2" in said_resumed:
            raise Failed(f"{dtype}: the run was not resumed behind its first round")
        if "MPI through host memory" not in said_shared:
            raise Failed("two ranks on one card did not say that they sum through host memory")
        want = adapter_bytes(once)
        for name, output in (("again", again), ("two ranks", shared), ("resumed", resumed)):
            if adapter_bytes(output) != want:
                raise Failed(f"{dtype}: the adapter differs: {name}", facts)
        facts[dtype] = f"{len(want)} bytes, equal 4 times"
    return facts


@check("bits-over-nccl", needs_gpu=True)
def bits_over_nccl(p):
    """With a GPU a rank: NCCL and MPI give the same adapter as one rank."""
    gpus = len(p.doctor()["gpus"])
    if gpus < 2:
        raise LeftOut(f"NCCL sums where each rank has a GPU of its own, and here is {gpus}")
    ranks = min(gpus, 4)
    p.forget_runs()
    alone, _ = p.train("nccl-alone", 1)
    by_nccl, said = p.train("nccl-auto", ranks)
    by_mpi, _ = p.train("nccl-mpi", ranks, "--reduce", "mpi")
    if "summed by NCCL" not in said:
        raise Failed("the ranks did not say that they sum by NCCL")
    want = adapter_bytes(alone)
    if adapter_bytes(by_nccl) != want or adapter_bytes(by_mpi) != want:
        raise Failed("the adapter depends on how the updates are summed")
    return {"ranks": ranks}


@check("sanitizer", needs_gpu=True)
def sanitizer(p):
    """compute-sanitizer's four tools over the tests of the operations on the GPU."""
    programs = [(test, p.gpu_test_names(test)) for test in p.tests
                if test["name"].startswith("tensor/")]
    programs = [(test, names) for test, names in programs if names]
    if not programs:
        raise Failed("no test of an operation on the GPU was found")
    tools = ("memcheck",) if p.quick else ("memcheck", "racecheck", "initcheck", "synccheck")
    # Under racecheck some of cuBLASLt's kernels end in a fault of the tool, even with a filter
    # for ours; the products' test has none of ours besides.
    work = [(tool, test, names) for tool in tools for test, names in programs
            if (tool, test["name"]) != ("racecheck", "tensor/linear")]
    clean = p.side_by_side(lambda item: p.sanitize(*item), work)
    facts = {tool: sum(of == tool for of, _, _ in work) for tool in tools}
    faults = [f"{tool} on {test['name']}"
              for (tool, test, _), fine in zip(work, clean) if not fine]
    if faults:
        raise Failed("faults: " + ", ".join(faults), facts)
    return facts


@check("adapter-sum")
def adapter_sum(p):
    """The end of a round with a 160 MB adapter on four ranks (of one card: through host memory)."""
    return bench_adapter_sum(p)


@check("bench-1.1b", needs_gpu=True)
def bench_1b(p):
    return bench_model(p, "llama-1.1b", tokens=1024, records=16)


@check("bench-7b", needs_gpu=True)
def bench_7b(p):
    return bench_model(p, "llama-2-7b", tokens=1024, records=8)


@check("bench-8b", needs_gpu=True)
def bench_8b(p):
    return bench_model(p, "llama-3-8b", tokens=4096, records=2)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--build", type=pathlib.Path, help="build folder, outside a bundle")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("gpu-results"))
    parser.add_argument("--only", default="", help="names of checks, by comma")
    parser.add_argument("--skip", default="", help="names of checks, by comma")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--limit", type=int, default=600, help="seconds until a command is killed")
    parser.add_argument("--jobs", type=int, default=1,
                        help="tests that run side by side, sharing the card")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true", help="name the checks and stop")
    return parser.parse_args()


def chosen(options):
    """(name, why it is left out or None, function) of every check."""
    only, skip = (set(filter(None, text.split(","))) for text in (options.only, options.skip))
    unknown = (only | skip) - {name for name, _, _ in CHECKS}
    if unknown:
        sys.exit(f"run.sh: no check is named {', '.join(sorted(unknown))}; --list names them")
    for name, needs_gpu, function in CHECKS:
        reason = None
        if (only and name not in only) or name in skip:
            reason = "not asked for"
        elif needs_gpu and options.device == "cpu":
            reason = "needs a GPU, and --device cpu was given"
        yield name, reason, function


def run_check(name, function, programs):
    start = time.monotonic()
    try:
        result = {"result": "passed", "facts": function(programs) or {}}
    except LeftOut as reason:
        result = {"result": "left out", "reason": str(reason)}
    except Failed as failure:
        result = {"result": "failed", "reason": failure.args[0],
                  "facts": failure.args[1] if len(failure.args) > 1 else {}}
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        result = {"result": "failed", "reason": f"{type(error).__name__}: {error}"}
    return {"name": name, "seconds": round(time.monotonic() - start, 2), **result}


def as_text(results):
    lines = []
    for entry in results:
        reason = f": {entry['reason']}" if "reason" in entry else ""
        lines.append(f"{entry['result']:9} {entry['name']:17} {entry['seconds']:8.1f} s{reason}")
    counts = {kind: sum(entry["result"] == kind for entry in results)
              for kind in ("passed", "failed", "left out")}
    lines.append(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return "\n".join(lines) + "\n"


def main():
    options = arguments()
    if options.list:
        print("\n".join(f"{name}{' (GPU)' if needs_gpu else ''}" for name, needs_gpu, _ in CHECKS))
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    programs = Programs(options)
    results = []
    for name, reason, function in chosen(options):
        if reason:
            results.append({"name": name, "seconds": 0.0, "result": "left out", "reason": reason})
        else:
            print(f"-- {name}", flush=True)
            results.append(run_check(name, function, programs))
        # Written after each, so that a machine that is taken away leaves what there was.
        report = {"started": programs.started, "command": sys.argv[1:], "checks": results}
        (options.output / "results.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.output / "results.txt").write_text(as_text(results))
    print(as_text(results) + f"results in {options.output}{os.sep}")
    ran = [entry for entry in results if entry["result"] != "left out"]
    return 0 if ran and all(entry["result"] == "passed" for entry in ran) else 1


if __name__ == "__main__":
    sys.exit(main())
