"""tests/gpu/programs.py: how the checks start the program, its ranks and its tests, in a bundle or
in a build tree."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent


class Failed(Exception):
    """Why a check failed, and perhaps what it had found by then."""


class LeftOut(Exception):
    """Why a check does not apply to this machine."""


def read_json(text):
    """What a program printed, be it with other lines before."""
    return json.loads(text[text.index("{"):])


def adapter_bytes(output):
    return (output / "adapter" / "adapter_model.safetensors").read_bytes()


def runs_on_gpu(test):
    """Whether GoogleTest's name of a test says so: "Cases/Lora.Forward/cuda_bf16_one_row"."""
    return re.search(r"/cuda(_|$)", test) is not None


def find_tool(name):
    """A tool of the CUDA toolkit."""
    for place in (shutil.which(name), f"/usr/local/cuda/bin/{name}"):
        if place and os.access(place, os.X_OK):
            return place
    raise Failed(f"{name} is neither in PATH nor in /usr/local/cuda/bin")


class Programs:
    """What there is to run, and where its output goes."""

    def __init__(self, options):
        self.device, self.quick, self.limit = options.device, options.quick, options.limit
        self.jobs = options.jobs
        self.gpu = options.device == "cuda"
        self.dtypes = ("fp32", "bf16") if self.gpu else ("fp32",)
        self.output = options.output.resolve()
        self.started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.environment = dict(os.environ, OMP_NUM_THREADS="1")
        if options.bundle:
            self._in_bundle(options.bundle.resolve())
        else:
            self._in_tree(options.build)
        self.story_model = self.shared / "data" / "models" / "story-656k"
        self.story_fixture = self.shared / "fixtures" / "story" / "evaluate.json"
        self.alpaca = self.shared / "data" / "prompts" / "alpaca.json"

    def _in_bundle(self, bundle):
        self.fedit, self.mpirun = bundle / "bin" / "fedit", bundle / "bin" / "mpirun"
        self.root, self.shared = bundle / "share" / "tree", bundle / "share" / "shared"
        self.story_records = self.shared / "data" / "global_test.json"
        self.tests = json.loads((bundle / "etc" / "tests.json").read_text())
        for test in self.tests:
            test["program"] = bundle / "bin" / pathlib.PurePath(test["program"]).name

    def _in_tree(self, build):
        from test_list import test_list
        self.root = HERE.parents[1]
        self.shared = self.root.parent / "shared"
        self.story_records = self.shared / "data" / "dolly-15k" / "clients-10" / "global_test.json"
        builds = self.root / "build"
        build = build or next((b for b in (builds / "cuda", builds / "release")
                               if (b / "src" / "app" / "fedit").exists()), None)
        if build is None:
            sys.exit("run.sh: nothing is built; build first, or give --build FOLDER")
        self.fedit, self.mpirun = build.resolve() / "src" / "app" / "fedit", "mpirun"
        self.environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                                OMPI_MCA_rmaps_base_oversubscribe="1",
                                OMPI_MCA_btl_vader_single_copy_mechanism="none")
        self.tests = test_list(build)

    def ranks(self, count, command):
        """The command on `count` ranks; 0: without mpirun."""
        return [self.mpirun, "--bind-to", "none", "-n", str(count), *command] if count else command

    def call(self, log, command, extra=None, limit=None, folder=None):
        """(exit code or "timeout", output); all of it goes into the log of that name too."""
        command = [str(word) for word in command]
        start = time.monotonic()
        job = subprocess.Popen(command, env={**self.environment, **(extra or {})}, text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, cwd=folder, errors="replace",
                               start_new_session=True)
        try:
            said, _ = job.communicate(timeout=limit or self.limit)
            code = job.returncode
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)  # with what it started, which would hold the card
            code, said = "timeout", job.communicate()[0]
        with open(self.output / f"{log}.log", "a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(command)}\n{said}"
                       f"[code {code}, {time.monotonic() - start:.1f} s]\n")
        return code, said

    def run(self, log, command, **options):
        """Output of a command that must end with 0."""
        code, said = self.call(log, command, **options)
        if code != 0:
            raise Failed(f"code {code} from {' '.join(map(str, command))}: "
                         f"{' '.join(said.split()[-60:])} (see {log}.log)")
        return said

    def doctor(self):
        return read_json(self.run("machine", [self.fedit, "doctor", "--output-format", "json"]))

    def forget_runs(self):
        """Removes what train() left, which else would go on instead of beginning anew."""
        shutil.rmtree(self.output / "runs", ignore_errors=True)

    def train(self, name, ranks, *options, rounds=2):
        """A small federated run of the shipped model; its output folder and what it said. Called
        again with the same name, it goes on."""
        output = self.output / "runs" / name
        said = self.run("train", self.ranks(ranks, [
            self.fedit, "train", "--model", self.root / "data" / "tiny-llama",
            "--data", self.root / "data" / "test.jsonl", "--num-clients", "5", "--rounds",
            str(rounds), "--device", self.device, "--local-steps", "10", "--lora-target-modules",
            "all-linear", "--lora-r", "8",
            "--batch-size", "4", "--micro-batch-size", "2", "--threads", "1", "--progress", "none",
            "--verbosity", "verbose", "--output", output, *options]))
        return output, said

    # ---- test programs

    def side_by_side(self, function, work):
        """What the function gives for each item, in order, `jobs` at a time."""
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(function, work))

    def run_tests(self, tests, extra=None):
        """Runs entries of the list; how many tests passed and ran on the GPU, which did not."""
        total = {"passed": 0, "failed": [], "skipped": [], "on_gpu": 0}
        for counts in self.side_by_side(lambda test: self._run_test(test, extra), tests):
            total = {name: total[name] + counts[name] for name in total}
        return total

    def _run_test(self, test, extra):
        folder = self.output / "test_runs" / test["name"]
        folder.mkdir(parents=True, exist_ok=True)
        report = folder / "report.json"
        report.unlink(missing_ok=True)
        # Every rank would write the report; of a parallel test only its end counts.
        words = [] if test["ranks"] else [f"--gtest_output=json:{report}"]
        code, said = self.call("tests", self.ranks(test["ranks"], [test["program"], *words]), extra,
                               limit=4 * test["timeout"], folder=folder)
        counts = {"passed": 0, "failed": [], "skipped": [], "on_gpu": 0}
        if code != 0:
            counts["failed"].append(test["name"])
        if test["ranks"]:
            counts["passed"] += said.count("[       OK ]")
            counts["skipped"] += [test["name"]] * said.count("[  SKIPPED ] ")
        elif report.exists():
            for suite in json.loads(report.read_text())["testsuites"]:
                for case in suite["testsuite"]:
                    full = f"{test['name']}: {suite['name']}.{case['name']}"
                    if case["result"] == "SKIPPED":
                        counts["skipped"].append(full)
                    elif "failures" not in case:
                        counts["passed"] += 1
                        counts["on_gpu"] += runs_on_gpu(full)
        return counts

    def gpu_test_names(self, test):
        """The tests of a program that run on the GPU."""
        suite, names = "", []
        for line in self.run("sanitizer", [test["program"], "--gtest_list_tests"]).splitlines():
            if not line.startswith(" "):
                suite = line.split()[0] if line.split() else ""
                continue
            name = suite + line.split()[0]
            if runs_on_gpu(name):
                names.append(name)
        return names

    def sanitize(self, tool, test, names):
        """True if the tool found nothing in the tests named. It sees the program itself, not what
        starts it."""
        command = [find_tool("compute-sanitizer"), "--tool", tool, "--error-exitcode", "99",
                   "--target-processes", "all"]
        # These two report what NVIDIA's kernels do on purpose; ours are in namespace fedit.
        if tool in ("racecheck", "synccheck"):
            command += ["--kernel-name", "kns=fedit"]
        # A vocabulary of 600,000 takes the tools minutes and shows them nothing new.
        names = [name for name in names if "x600000" not in name]
        command += [test["program"], "--gtest_filter=" + ":".join(names)]
        code, said = self.call("sanitizer", command)
        return code == 0 and "SUMMARY" in said
