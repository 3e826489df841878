"""The adapter's bytes depend neither on the number of ranks nor on stops in between."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest

from training import (Program, adapter_digest, children, file_digest, finish, model_digest,
                      wait_for)

MPIEXEC, FEDIT = sys.argv.pop(), sys.argv.pop()
ROUNDS = 3
OPTIONS = ("--rounds", ROUNDS, "--local-epochs", 2, "--client-fraction", 0.8, "--keep-last", 0)
# Clients that take a while, for stops in the middle of one.
LONG = ("--rounds", 2, "--local-steps", 100, "--client-fraction", 0.6, "--keep-last", 0)


class Placement(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(FEDIT, MPIEXEC, pathlib.Path.cwd() / "runs")
        cls.folder = cls.program.folder
        cls.long_digest = None

    def test_ranks_change_no_byte(self):
        digests = {}
        for ranks in (0, 1, 2, 4):
            output = self.folder / f"ranks_{ranks}"
            code, said = self.program.run(output, ranks, *OPTIONS)
            self.assertEqual(code, 0, said)
            self.assertIn("done: 3 rounds", said)
            digests[ranks] = [adapter_digest(output, n) for n in range(1, ROUNDS + 1)]
        self.assertEqual(len(set(digests[1])), ROUNDS, "the adapter does not move")
        for ranks in (0, 2, 4):
            self.assertEqual(digests[ranks], digests[1], f"{ranks} ranks")

    def test_full_tuning_depends_on_ranks_and_stops_as_little(self):
        options = ("--tune", "full", "--rounds", 2, "--local-steps", 30, "--keep-last", 0)
        digests = {}
        for ranks in (1, 2, 4):
            output = self.folder / f"full_{ranks}"
            code, said = self.program.run(output, ranks, *options)
            self.assertEqual(code, 0, said)
            digests[ranks] = [model_digest(output, n) for n in (1, 2)]
        self.assertNotEqual(*digests[1])
        self.assertEqual(digests[2], digests[1])
        self.assertEqual(digests[4], digests[1])

        output, code, lives = self.folder / "full_stopped", 75, 0
        while code == 75 and lives < 60:
            code, said = self.program.run(output, 2, *options, "--max-walltime", 3 / 60)
            lives += 1
        self.assertEqual(code, 0, said)
        self.assertGreaterEqual(lives, 2, "the limit never stopped the run")
        self.assertEqual(model_digest(output, 2), digests[1][1])

    def test_one_client_equals_centralized_training(self):
        options = ("--tune", "full", "--rounds", 1, "--local-epochs", 1)
        central, alone = self.folder / "central", self.folder / "alone"
        for output, who in ((central, ("--mode", "centralized")), (alone, ("--num-clients", "1"))):
            code, said = self.program.run(output, 1, *options, *who)
            self.assertEqual(code, 0, said)
        self.assertEqual(model_digest(central, 1), model_digest(alone, 1))

    def local_digests(self, name, ranks, *options):
        """A finished run of --mode local: the bytes of each client's adapter after each round."""
        output = self.folder / name
        code, said = self.program.run(output, ranks, "--mode", "local", *options)
        self.assertEqual(code, 0, said)
        return {(int(folder.parent.name[-6:]), folder.name):
                file_digest(folder / "adapter_model.safetensors")
                for folder in (output / "adapters").glob("round_*/client_*")}

    def test_local_training_averages_nothing(self):
        """One client alone is what a federation of one client is; five go apart, on any ranks."""
        lone = ("--num-clients", 1, "--rounds", ROUNDS, "--local-steps", 10, "--keep-last", 0)
        output = self.folder / "federation_of_one"
        code, said = self.program.run(output, 1, *lone)
        self.assertEqual(code, 0, said)
        self.assertEqual(self.local_digests("local_one", 1, *lone),
                         {(n, "client_000000"): adapter_digest(output, n)
                          for n in range(1, ROUNDS + 1)})

        options = ("--num-clients", 5, "--rounds", ROUNDS, "--keep-last", 0)
        digests = self.local_digests("local_1", 1, *options)
        self.assertEqual(len(set(digests.values())), 5 * ROUNDS, "clients have the same adapter")
        for ranks in (2, 4):
            self.assertEqual(self.local_digests(f"local_{ranks}", ranks, *options), digests)

        seen = json.loads(self.program.inspect(self.folder / "local_2"))["last_evaluation"]
        whole = {row["client"]: row["loss"] for row in seen if row["category"] == "all"}
        self.assertEqual(sorted(whole), [0, 1, 2, 3, 4])
        self.assertEqual(len(set(whole.values())), 5)

    def test_local_training_survives_stops_and_kills(self):
        options = ("--num-clients", 5, "--rounds", ROUNDS, "--local-steps", 30,
                   "--checkpoint-every", 2)
        digests = self.local_digests("local_whole", 1, "--keep-last", 0, *options)
        last = {key: value for key, value in digests.items() if key[0] == ROUNDS}

        output, lives = self.folder / "local_stopped", 0
        code = 75
        while code == 75 and lives < 60:
            code, said = self.program.run(output, 1 + lives % 2, "--mode", "local", *options,
                                          "--max-walltime", 2 / 60)
            lives += 1
        self.assertEqual(code, 0, said)
        self.assertGreaterEqual(lives, 2, "the limit never stopped the run")
        self.assertEqual(self.local_results(output), last)

        output = self.folder / "local_killed"
        for _ in range(3):
            job = self.program.start(output, 1, "--mode", "local", *options)
            wait_for(lambda: (output / "run.h5").exists() or job.poll() is not None)
            time.sleep(1.2)
            for pid in [*children(job.pid), job.pid]:
                os.kill(pid, signal.SIGKILL)
            finish(job)
        code, said = self.program.run(output, 2, "--mode", "local", *options)
        self.assertEqual(code, 0, said)
        self.assertEqual(self.local_results(output), last)

    def local_results(self, output):
        return {(ROUNDS, folder.name): file_digest(folder / "adapter_model.safetensors")
                for folder in (output / "adapter").iterdir()}

    def test_a_lost_client_of_local_training_is_told(self):
        output = self.folder / "local_lost"
        options = ("--mode", "local", "--num-clients", 3, "--local-epochs", 1)
        self.assertEqual(self.program.run(output, 1, *options, "--rounds", 1)[0], 0)
        (output / "state" / "round_000000" / "client_000001.h5").unlink()
        code, said = self.program.run(output, 2, *options, "--rounds", 2)
        self.assertEqual(code, 2, said)
        self.assertIn("what client 1 learned in round 1 is lost", said)

    @unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "one core: no second thread")
    def test_threads_change_no_byte_or_the_run_is_refused(self):
        """Kernels for AVX-512 give the same bits on any number of threads, those for AVX2 do not."""
        doctor = subprocess.run([FEDIT, "doctor", "--output-format", "json"], check=True, text=True,
                                capture_output=True, timeout=60)
        output = self.folder / "threads"
        options = ("--local-steps", 2, "--client-fraction", 0.4, "--keep-last", 0)
        code, said = self.program.run(output, 0, *options, "--rounds", 1)
        self.assertEqual(code, 0, said)
        code, said = self.program.run(output, 0, *options, "--rounds", 2, "--threads", 2)
        if json.loads(doctor.stdout)["cpu"]["threads_change_bits"]:
            self.assertEqual(code, 2, said)
            self.assertIn("threads is 2 now, but the run was made with 1", said)
            return
        self.assertEqual(code, 0, said)
        alone = self.folder / "one_thread"
        self.assertEqual(self.program.run(alone, 0, *options, "--rounds", 2)[0], 0)
        self.assertEqual(adapter_digest(output, 2), adapter_digest(alone, 2))

    def test_cohorts_change_no_byte_with_ranks_and_stops(self):
        """Clients that share their passes do so on any number of ranks, and again after a stop."""
        options = (*OPTIONS, "--cohort", 2)
        digests = {}
        for ranks in (1, 2, 4):
            output = self.folder / f"cohort_{ranks}"
            code, said = self.program.run(output, ranks, *options)
            self.assertEqual(code, 0, said)
            self.assertIn("2 to a pass at most", said)
            self.assertIn("for 2 clients at once", said)
            digests[ranks] = [adapter_digest(output, n) for n in range(1, ROUNDS + 1)]
        self.assertEqual(len(set(digests[1])), ROUNDS, "the adapter does not move")
        self.assertEqual(digests[2], digests[1])
        self.assertEqual(digests[4], digests[1])

        output, code, lives = self.folder / "cohort_stopped", 75, 0
        while code == 75 and lives < 60:
            code, said = self.program.run(output, 1 + lives % 2, *LONG, "--cohort", 2,
                                          "--max-walltime", 2.5 / 60)
            lives += 1
        self.assertEqual(code, 0, said)
        self.assertGreaterEqual(lives, 2, "the limit never stopped the run")
        whole = self.folder / "cohort_whole"
        code, said = self.program.run(whole, 4, *LONG, "--cohort", 2)
        self.assertEqual(code, 0, said)
        self.assertEqual(adapter_digest(output, 2), adapter_digest(whole, 2))

    def test_the_cohort_belongs_to_the_identity(self):
        output = self.folder / "cohort_identity"
        options = ("--rounds", 1, "--local-epochs", 1)
        code, said = self.program.run(output, 1, *options, "--cohort", "auto")
        self.assertEqual(code, 0, said)
        self.assertIn("\ncohort = 1\n", (output / "config.ini").read_text(), "five clients are few")
        code, said = self.program.run(output, 1, *options, "--cohort", 2)
        self.assertEqual(code, 2, said)
        self.assertIn("cohort is 2 now, but the run was made with 1", said)
        many = ("--num-clients", 40, "--client-fraction", 1, "--rounds", 1)
        said = self.program.run(self.folder / "cohort_auto", 1, *many, "--cohort", "auto",
                                "--dry-run")[1]
        # A client's two records are about 140 rows, so that three fill a pass of 512.
        self.assertIn("3 to a pass at most", said)
        self.assertIn("round 1 trains 14 cohorts of clients:", said)

    def undisturbed(self):
        if Placement.long_digest is None:
            output = self.folder / "long"
            code, said = self.program.run(output, 2, *LONG)
            self.assertEqual(code, 0, said)
            Placement.long_digest = adapter_digest(output, 2)
        return Placement.long_digest

    def resumed_equals_undisturbed(self, output, ranks):
        code, said = self.program.run(output, ranks, *LONG)
        self.assertEqual(code, 0, said)
        self.assertEqual(adapter_digest(output, 2), self.undisturbed())
        self.assertFalse((output / "run.lock").exists())
        return said

    def stop(self, name, request, *options):
        """A run stopped while clients train; its output folder."""
        self.undisturbed()
        output = self.folder / name
        job = self.program.start(output, 2, *LONG, *options)
        self.assertTrue(wait_for(lambda: (output / "run.h5").exists()))
        time.sleep(0.7)
        request(job, output)
        code, said = finish(job)
        self.assertEqual(code, 75, said)
        self.assertIn("stopped by", said)
        self.assertIn("Run the same command again", said)
        return output

    def test_a_stop_by_usr1_saves_half_trained_clients(self):
        output = self.stop("usr1", lambda job, _: job.send_signal(signal.SIGUSR1))
        saved = list((output / "state").glob("round_*/client_*.h5"))
        self.assertTrue(saved, "no client was saved")
        self.resumed_equals_undisturbed(output, 4)

    def test_a_stop_by_term_twice(self):
        """As Slurm sends it: to the ranks, at a time limit more than once."""
        def twice(job, _):
            for pid in 2 * children(job.pid):
                os.kill(pid, signal.SIGTERM)
        self.resumed_equals_undisturbed(self.stop("term", twice), 1)

    def test_a_stop_by_the_stop_file(self):
        output = self.stop("file", lambda _, folder: (folder / "stop").touch())
        self.assertFalse((output / "stop").exists(), "the file would stop the next life too")
        self.resumed_equals_undisturbed(output, 1)

    def test_lives_of_a_third_of_a_round_reach_the_end(self):
        """A time limit that is announced must be kept, again and again."""
        self.undisturbed()
        output = self.folder / "walltime"
        lives = 0
        code = 75
        while code == 75 and lives < 60:
            code, said = self.program.run(output, 1 + lives % 2, *LONG, "--max-walltime", 2.5 / 60)
            lives += 1
        self.assertEqual(code, 0, said)
        self.assertGreaterEqual(lives, 2, "the limit never stopped the run")
        self.assertEqual(adapter_digest(output, 2), self.undisturbed())

    def test_two_jobs_in_one_folder_are_refused(self):
        output = self.folder / "twice"
        first = self.program.start(output, 1, *LONG)
        self.assertTrue(wait_for(lambda: (output / "run.h5").exists()))
        code, said = self.program.run(output, 1, *LONG)
        self.assertEqual(code, 2, said)
        self.assertIn("another job works in this folder", said)
        self.assertIn("--force", said)
        code, said = finish(first)
        self.assertEqual(code, 0, said)

    def test_a_finished_run_given_more_rounds_goes_on(self):
        output = self.folder / "more"
        base = ("--local-epochs", 1, "--keep-last", 0)
        self.assertEqual(self.program.run(output, 1, "--rounds", 1, *base)[0], 0)
        code, said = self.program.run(output, 2, "--rounds", 2, *base)
        self.assertEqual(code, 0, said)
        self.assertIn("going on after round 1 of 2", said)
        whole = self.folder / "whole"
        self.assertEqual(self.program.run(whole, 1, "--rounds", 2, *base)[0], 0)
        self.assertEqual(adapter_digest(output, 2), adapter_digest(whole, 2))

    def test_recomputing_takes_less_memory_and_changes_no_byte(self):
        def planned(said):
            amount, unit = re.search(r"\(training ([\d.]+) (\w+),", said).groups()
            return float(amount) * {"KiB": 1, "MiB": 1024, "GiB": 1024**2}[unit]
        options = ("--local-epochs", 1, "--keep-last", 0, "--eval-batch-size", 1)
        kept, mixed = self.folder / "kept", self.folder / "recomputed"
        code, said = self.program.run(kept, 1, "--rounds", 2, *options)
        self.assertEqual(code, 0, said)
        memory = [planned(said)]
        for rounds, recompute in ((1, "light"), (2, "layer")):  # it may change on the way
            code, said = self.program.run(mixed, 1, "--rounds", rounds, *options,
                                          "--recompute", recompute)
            self.assertEqual(code, 0, said)
            memory.append(planned(said))
            self.assertEqual(adapter_digest(mixed, rounds), adapter_digest(kept, rounds))
        self.assertGreater(memory[0], memory[1])
        self.assertGreater(memory[1], memory[2])

    def test_another_identity_is_refused_with_a_diff(self):
        output = self.folder / "identity"
        options = ("--rounds", 1, "--local-epochs", 1)
        self.assertEqual(self.program.run(output, 1, *options)[0], 0)
        before = adapter_digest(output, 1)
        code, said = self.program.run(output, 1, *options, "--seed", 5)
        self.assertEqual(code, 2, said)
        self.assertIn("seed is 5 now, but the run was made with 0", said)
        self.assertEqual(adapter_digest(output, 1), before)
        code, said = self.program.run(output, 1, *options, "--resume", "never")
        self.assertEqual(code, 2, said)
        self.assertIn("holds a run already", said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
