"""The workstation script: its codes, a stop by TERM, and the same command going on from there."""

import os
import pathlib
import signal
import subprocess
import sys
import unittest

from training import ROOT, Program, finish, wait_for

MPIEXEC, FEDIT = sys.argv.pop(), sys.argv.pop()
LONG = ("--rounds", 2, "--local-steps", 300)


def start(*words, fedit=FEDIT, **environment):
    return subprocess.Popen([ROOT / "jobs" / "workstation.sh", *words], text=True,
                            env={**os.environ, "FEDIT": fedit, **environment},
                            stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            start_new_session=True)


def run(*words, **options):
    return finish(start(*words, **options))


class Workstation(unittest.TestCase):
    def test_words_it_cannot_use_end_with_two_and_teach(self):
        for words in (("-n", "two"), ("-n",), ("--help",)):
            code, said = run(*words)
            self.assertEqual(code, 2, said)
            self.assertIn("jobs/workstation.sh [-n RANKS]", said)
        code, said = run("--rounds", "1", fedit="no/such/program")
        self.assertEqual(code, 2, said)
        self.assertIn("no program at no/such/program", said)

    def test_codes_of_the_program_are_its_codes(self):
        code, said = run("-n", "2", "--lora-rr", "3")
        self.assertEqual(code, 2, said)
        self.assertEqual(said.count("there is no option --lora-rr"), 1, said)

    def test_waiting_threads_sleep_unless_told_otherwise(self):
        program = pathlib.Path.cwd() / "says_how_it_waits"
        program.write_text("#!/bin/sh\necho waits: $OMP_WAIT_POLICY\n")
        program.chmod(0o755)
        for asked, policy in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
            code, said = run("-n", "1", fedit=str(program), **asked)
            self.assertEqual(code, 0, said)
            self.assertIn(f"waits: {policy}\n", said)

    def test_stops_on_request_and_goes_on(self):
        program = Program(FEDIT, MPIEXEC, pathlib.Path.cwd() / "runs")
        output = program.folder / "run"
        options = program.command(output, 0, *LONG)[2:]  # without `fedit train`
        job = start("-n", "2", *map(str, options))
        self.assertTrue(wait_for((output / "run.h5").exists), "no log was written")
        job.send_signal(signal.SIGTERM)
        code, said = finish(job)
        self.assertEqual(code, 75, said)
        self.assertIn("the same command goes on from here", said)
        self.assertFalse((output / "adapter").exists())

        code, said = run("-n", "2", *map(str, options))
        self.assertEqual(code, 0, said)
        self.assertTrue((output / "adapter" / "adapter_model.safetensors").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
