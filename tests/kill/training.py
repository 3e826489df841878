"""Starts training runs of the shipped model on the shipped records, for tests that disturb them."""

import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 120  # seconds; a job that hangs is killed and fails


class Program:
    """The program `fedit`, a tiny model it made, and a folder for its runs."""

    def __init__(self, fedit, mpiexec, folder):
        self.fedit, self.mpiexec = fedit, mpiexec
        self.folder = pathlib.Path(folder)
        self.model = self.folder / "model"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        tiny = ROOT / "data" / "tiny-llama"
        subprocess.run([fedit, "init", "--model-config", tiny / "config.json", "--seed", "1",
                        "--output", self.model], check=True, capture_output=True, timeout=LIMIT)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny / name, self.model)
        # Few held-out records: these tests are about training, and evaluation would take longer.
        held_out = (ROOT / "data" / "test.jsonl").read_text().splitlines(keepends=True)
        self.eval_data = self.folder / "eval.jsonl"
        self.eval_data.write_text("".join(held_out[:8]))

    def command(self, output, ranks, *options, program=None):
        mpirun = [self.mpiexec, "--bind-to", "none", "-n", str(ranks)] if ranks else []
        return [*mpirun, program or self.fedit, "train", "--model", self.model,
                "--data", ROOT / "data" / "test.jsonl", "--eval-data", self.eval_data,
                "--output", output,
                *(() if "--threads" in options else ("--threads", "1")),
                *(() if {"--num-clients", "--mode"} & set(options) else ("--num-clients", "5")),
                "--lora-target-modules", "q_proj,down_proj", "--lora-r", "4", "--batch-size", "2",
                "--micro-batch-size", "1", "--lora-dropout", "0.1", "--learning-rate", "0.002",
                "--progress", "none", *map(str, options)]

    def inspect(self, output):
        """What `fedit inspect` says of a run, as JSON text."""
        return subprocess.run([self.fedit, "inspect", output, "--output-format", "json"],
                              check=True, capture_output=True, text=True, timeout=LIMIT).stdout

    def start(self, output, ranks, *options, program=None, fault=None):
        environment = dict(os.environ, FEDIT_TEST_FAULT=fault) if fault else dict(os.environ)
        return subprocess.Popen(self.command(output, ranks, *options, program=program),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                env=environment, start_new_session=True)

    def run(self, output, ranks, *options, **more):
        return finish(self.start(output, ranks, *options, **more))


class TrainingTest(unittest.TestCase):
    """Tests of runs in a folder of their own. Their class names `fedit` and `mpiexec`."""

    @classmethod
    def setUpClass(cls):
        cls.program = Program(cls.fedit, cls.mpiexec, pathlib.Path.cwd() / "runs")
        cls.folder = cls.program.folder

    def run_whole(self, output, ranks, *options):
        """Runs to the end undisturbed; seconds it took, from which tests take their moments."""
        began = time.monotonic()
        code, said = self.program.run(output, ranks, *options)
        self.assertEqual(code, 0, said)
        return time.monotonic() - began

    def run_in_lives(self, output, seconds, *options):
        """Runs to the end in lives that a time limit ends, on one rank and two in turn; `seconds`
        is what an undisturbed run takes."""
        minutes = max(1, 0.4 * seconds) / 60
        code, lives = 75, 0
        while code == 75 and lives < 60:
            code, said = self.program.run(output, 1 + lives % 2, *options,
                                          "--max-walltime", minutes)
            lives += 1
        self.assertEqual(code, 0, said)
        self.assertGreaterEqual(lives, 2, "the limit never stopped the run")


def finish(job):
    """Exit code and output; a job that hangs fails with what it said."""
    try:
        said, _ = job.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        raise AssertionError(f"the job hangs: {job.communicate()[0]}") from None
    return job.returncode, said


def children(pid):
    """Process ids below `pid`, deepest last."""
    try:
        listed = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    below = [int(child) for child in listed]
    return below + [deeper for child in below for deeper in children(child)]


def is_alive(pid):
    """A zombie has ended: only its parent has not looked yet."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids, seconds=15):
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [pid for pid in pids if is_alive(pid)]


def adapter_digest(output, rounds):
    """What must not change: the bytes of the global adapter after a round."""
    return digest(output, "adapters", rounds, "adapter_model.safetensors")


def model_digest(output, rounds):
    """The same where the base's own weights train."""
    return digest(output, "models", rounds, "model.safetensors")


def digest(output, results, rounds, name):
    return file_digest(pathlib.Path(output) / results / f"round_{rounds:06}" / name)


def file_digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
