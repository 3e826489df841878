"""This build's bundle, unpacked elsewhere, runs from an empty environment with what it brought."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import time
import unittest

BUILD = pathlib.Path(sys.argv.pop())
HERE = pathlib.Path(__file__).resolve().parent
LIMIT_BYTES = 60_000_000
# What the bundle leaves to the machine: what every Linux has, and CUDA.
OF_THE_TARGET = re.compile(r"(ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libresolv|libutil|"
                           r"libnss_\w+|libgcc_s|libstdc\+\+|libcuda\w*|libcublas\w*|libnccl)[.-]")
EMPTY = {"PATH": "/usr/bin:/bin"}


def run(command, environment=None, limit=600, **options):
    return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True,
                          timeout=limit, stdin=subprocess.DEVNULL, **options)


def foreign_libraries(pid, bundle):
    """Shared objects that a process has mapped from outside the bundle."""
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    files = {line.split(maxsplit=5)[5] for line in maps.splitlines()
             if re.search(r"\.so[.0-9]*$", line)}
    return {file for file in files
            if not file.startswith(str(bundle))
            and not OF_THE_TARGET.match(pathlib.Path(file).name)}


class Bundle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        work = pathlib.Path.cwd()
        for name in ("made", "moved here", "results"):
            shutil.rmtree(work / name, ignore_errors=True)
        (work / "made").mkdir()
        cls.archive = work / "made" / "bundle.tar.xz"
        made = run([HERE / "bundle.sh", "--build", BUILD, "--output", work / "made" / "bundle",
                    "--archive", cls.archive])
        cls.said = made.stdout + made.stderr
        if made.returncode != 0:
            raise AssertionError(cls.said)
        shutil.rmtree(work / "made" / "bundle")
        with tarfile.open(cls.archive) as archive:
            archive.extractall(work / "moved here")
        cls.bundle = work / "moved here" / "bundle"
        cls.bin = cls.bundle / "bin"
        cls.work = work / "results"
        cls.work.mkdir()

    def start(self, *command):
        return run(command, EMPTY, cwd="/")

    def test_is_below_the_size_that_travels(self):
        self.assertLess(self.archive.stat().st_size, LIMIT_BYTES, self.said)
        self.assertIn("needs there: glibc", self.said)

    def test_the_program_says_what_it_is(self):
        done = self.start(self.bin / "fedit", "--version")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("fedit", done.stdout)

    def test_two_ranks_train_and_map_nothing_of_this_machine(self):
        tree = self.bundle / "share" / "tree"
        job = subprocess.Popen(
            [self.bin / "mpirun", "-n", "2", self.bin / "fedit", "train", "--model",
             tree / "data" / "tiny-llama", "--data", tree / "data" / "test.jsonl", "--num-clients",
             "2", "--rounds", "1", "--local-steps", "4", "--batch-size", "2", "--micro-batch-size",
             "1", "--lora-r", "4", "--threads", "1", "--progress", "none", "--output",
             self.work / "run"],
            env=EMPTY, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ranks, foreign = set(), set()
        while job.poll() is None:
            for pid in self.ranks_of(job.pid):
                try:
                    foreign |= foreign_libraries(pid, self.bundle)
                    ranks.add(pid)
                except OSError:
                    continue  # it has just ended
            time.sleep(0.02)
        said = job.communicate()[0]
        self.assertEqual(job.returncode, 0, said)
        self.assertIn("2 rank(s) x 1 thread(s)", said)
        self.assertEqual(len(ranks), 2, "not both ranks were seen")
        self.assertEqual(foreign, set())
        self.assertTrue((self.work / "run" / "adapter" / "adapter_model.safetensors").exists())

    def ranks_of(self, pid):
        """The processes below mpirun that are the program itself, not the shell that starts it."""
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
        try:
            pids = children.read_text().split()
        except OSError:
            return []
        program = str(self.bundle / "libexec" / "fedit")
        found = []
        for child in pids:
            try:
                if os.readlink(f"/proc/{child}/exe") == program:
                    found.append(int(child))
            except OSError:
                continue
        return found

    def test_a_test_program_finds_its_data(self):
        done = self.start(self.bin / "test_tensor_fixed_point")
        self.assertEqual(done.returncode, 0, done.stdout)
        fixtures = self.bundle / "share" / "shared" / "fixtures"
        done = run([self.bin / "test_model_decoder_fixture"], EMPTY, cwd=self.work)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual("SKIPPED" in done.stdout, not fixtures.exists(), done.stdout)

    def test_the_checks_pass_where_the_cpu_stands_in_and_the_rest_is_named(self):
        output = self.work / "on a cpu"
        story = ["story-federated", "story-evaluate", "story-generate"]
        fixtures = (self.bundle / "share" / "shared" / "fixtures").exists()
        skip = ["tests", "adapter-sum"] + ([] if fixtures else story)
        done = run([self.bundle / "run.sh", "--device", "cpu", "--quick", "--output", output,
                    "--skip", ",".join(skip)], EMPTY, cwd="/")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        report = json.loads((output / "results.json").read_text())
        results = {entry["name"]: entry for entry in report["checks"]}
        passed = ["machine", "bits-on-one-card"] + (story if fixtures else [])
        for name in passed:
            self.assertEqual(results[name]["result"], "passed", results[name])
        for name in ("bits-over-nccl", "sanitizer", "bench-1.1b", "bench-7b", "bench-8b"):
            self.assertEqual(results[name]["reason"], "needs a GPU, and --device cpu was given")
        self.assertEqual(results["tests"]["reason"], "not asked for")
        self.assertIn(f"{len(passed)} passed, 0 failed", (output / "results.txt").read_text())

    def test_a_machine_without_a_gpu_fails_where_one_was_to_be(self):
        if pathlib.Path("/dev/nvidia0").exists():
            self.skipTest("this machine has a GPU")
        output = self.work / "no gpu here"
        done = run([self.bundle / "run.sh", "--only", "machine,bits-on-one-card", "--output",
                    output], EMPTY, cwd="/")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        results = json.loads((output / "results.json").read_text())["checks"]
        failed = [entry["name"] for entry in results if entry["result"] == "failed"]
        self.assertEqual(failed, ["machine", "bits-on-one-card"])

    def test_names_of_checks_that_do_not_exist_are_refused(self):
        done = run([self.bundle / "run.sh", "--only", "sanitiser"], EMPTY, cwd=self.work)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("no check is named sanitiser", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
