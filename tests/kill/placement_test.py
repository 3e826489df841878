"""The adapter's bytes do not depend on the number of ranks, nor on what else must not matter."""

import os
import re
import sys
import unittest

from training import TrainingTest, adapter_digest, model_digest

MPIEXEC, FEDIT = sys.argv.pop(), sys.argv.pop()
ROUNDS = 3
OPTIONS = ("--rounds", ROUNDS, "--local-epochs", 2, "--client-fraction", 0.8, "--keep-last", 0)


class Placement(TrainingTest):
    fedit, mpiexec = FEDIT, MPIEXEC

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

    def test_full_tuning_depends_as_little_on_ranks(self):
        options = ("--tune", "full", "--rounds", 2, "--local-steps", 10, "--keep-last", 0)
        digests = {}
        for ranks in (1, 2, 4):
            output = self.folder / f"full_{ranks}"
            code, said = self.program.run(output, ranks, *options)
            self.assertEqual(code, 0, said)
            digests[ranks] = [model_digest(output, n) for n in (1, 2)]
        self.assertNotEqual(*digests[1])
        self.assertEqual(digests[2], digests[1])
        self.assertEqual(digests[4], digests[1])

    def test_one_client_equals_centralized_training(self):
        options = ("--tune", "full", "--rounds", 1, "--local-epochs", 1)
        central, alone = self.folder / "central", self.folder / "alone"
        for output, who in ((central, ("--mode", "centralized")), (alone, ("--num-clients", "1"))):
            code, said = self.program.run(output, 1, *options, *who)
            self.assertEqual(code, 0, said)
        self.assertEqual(model_digest(central, 1), model_digest(alone, 1))

    def test_cohorts_change_no_byte_with_ranks(self):
        """Clients that share their passes do so on any number of ranks."""
        digests = {}
        for ranks in (1, 2, 4):
            output = self.folder / f"cohort_{ranks}"
            code, said = self.program.run(output, ranks, *OPTIONS, "--cohort", 2)
            self.assertEqual(code, 0, said)
            self.assertIn("2 to a pass at most", said)
            self.assertIn("for 2 clients at once", said)
            digests[ranks] = [adapter_digest(output, n) for n in range(1, ROUNDS + 1)]
        self.assertEqual(len(set(digests[1])), ROUNDS, "the adapter does not move")
        self.assertEqual(digests[2], digests[1])
        self.assertEqual(digests[4], digests[1])

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

    @unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "one core: no second thread")
    def test_threads_change_no_byte(self):
        output, alone = self.folder / "threads", self.folder / "one_thread"
        options = ("--local-steps", 2, "--client-fraction", 0.4, "--keep-last", 0)
        for folder, rounds, threads in ((alone, 2, 1), (output, 1, 1), (output, 2, 2)):
            code, said = self.program.run(folder, 0, *options, "--rounds", rounds,
                                          "--threads", threads)
            self.assertEqual(code, 0, said)
        self.assertEqual(adapter_digest(output, 2), adapter_digest(alone, 2))

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
