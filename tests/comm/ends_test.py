"""Runs the probe under mpirun and checks how the job ends: exit code, message, nobody left."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

MPIEXEC, PROBE = sys.argv.pop(), sys.argv.pop()
RANKS = 4
LIMIT = 40  # seconds; a job that hangs is killed and fails


def start(end, *mpi_options):
    command = [MPIEXEC, "--bind-to", "none", *mpi_options, "-n", str(RANKS), PROBE, end]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def alive(pid):
    """A zombie has ended: only its parent has not looked yet."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


class Ends(unittest.TestCase):
    def finish(self, job, said=""):
        try:
            out, err = job.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            job.kill()
            self.fail(f"the job hangs: {job.communicate()}")
        pids = [int(line.split()[1]) for line in (said + out).splitlines()
                if line.startswith("pid")]
        deadline = time.monotonic() + 10
        while any(map(alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual([pid for pid in pids if alive(pid)], [], "ranks live on after the job")
        return job.returncode, err

    def run_probe(self, end, *mpi_options):
        return self.finish(start(end, *mpi_options))

    def test_error_of_one_rank_ends_those_that_wait(self):
        code, err = self.run_probe("lone_error")
        self.assertEqual(code, 2, err)
        self.assertEqual(err.count("fedit: error: alpha is -1"), 1, err)

    def test_agreed_error_is_printed_once_and_ends_with_its_code(self):
        code, err = self.run_probe("agreed_error")
        self.assertEqual(code, 2, err)
        self.assertEqual(err.count("fedit: error: alpha is -1"), 1, err)
        self.assertNotIn("MPI_ABORT", err)

    def test_own_error_after_an_agreed_one_is_printed_by_its_rank(self):
        code, err = self.run_probe("second_error")
        self.assertEqual(code, 2, err)
        self.assertEqual(err.count("fedit: error: alpha is -1"), 1, err)

    def test_hang_names_phase_and_missing_rank_once(self):
        code, err = self.run_probe("hang")
        self.assertEqual(code, 1, err)
        self.assertEqual(err.count("fedit: error: rank 1 did not come"), 1, err)
        self.assertEqual(err.count("fedit: error:"), 1, err)
        self.assertIn('phase "reduce"', err)

    def test_late_ranks_are_not_missing(self):
        code, err = self.run_probe("slow")
        self.assertEqual((code, err), (0, ""))

    def test_killed_rank_ends_the_job(self):
        code, err = self.run_probe("killed")
        self.assertEqual(code, 128 + signal.SIGKILL, err)

    def test_usr1_sent_to_mpirun_reaches_every_rank(self):
        job = start("stopped")
        said = ""
        while "ready" not in said:
            line = job.stdout.readline()
            self.assertTrue(line, "the job ended early")
            said += line
        job.send_signal(signal.SIGUSR1)
        code, err = self.finish(job, said)
        self.assertEqual(code, 75, err)

    def test_share_names_the_folder_that_open_mpi_was_given(self):
        with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
            code, err = self.run_probe(
                "share_too_much", "--mca", "osc_sm_backing_directory", folder)
        self.assertEqual(code, 1, err)
        self.assertEqual(err.count("fedit: error: 1073741824.0 MiB"), 1, err)
        self.assertIn(f"where: {folder}", err)

    def test_handles_may_outlive_mpi(self):
        self.assertEqual(self.run_probe("outlive"), (0, ""))

    def test_one_process_without_mpirun_is_a_world(self):
        alone = subprocess.run([PROBE, "slow"], capture_output=True, text=True, timeout=LIMIT)
        self.assertEqual((alone.returncode, alone.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main(verbosity=2)
