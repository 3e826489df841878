"""A run that is stopped on request and goes on ends with the bytes of the run that was not."""

import os
import signal
import sys
import time
import unittest

from training import TrainingTest, adapter_digest, children, finish, model_digest, wait_for

MPIEXEC, FEDIT = sys.argv.pop(), sys.argv.pop()
# Clients that take a while, for stops in the middle of one.
LONG = ("--rounds", 2, "--local-steps", 100, "--client-fraction", 0.6, "--keep-last", 0)


class Stops(TrainingTest):
    fedit, mpiexec = FEDIT, MPIEXEC
    whole = None

    def undisturbed(self):
        """The bytes of a run that is not stopped, and the seconds it takes on two ranks."""
        if Stops.whole is None:
            output = self.folder / "long"
            seconds = self.run_whole(output, 2, *LONG)
            Stops.whole = adapter_digest(output, 2), seconds
        return Stops.whole

    def resumed_equals_undisturbed(self, output, ranks):
        code, said = self.program.run(output, ranks, *LONG)
        self.assertEqual(code, 0, said)
        self.assertEqual(adapter_digest(output, 2), self.undisturbed()[0])
        self.assertFalse((output / "run.lock").exists())

    def stop(self, name, request):
        """A run stopped while clients train; its output folder."""
        _, seconds = self.undisturbed()
        output = self.folder / name
        job = self.program.start(output, 2, *LONG)
        self.assertTrue(wait_for(lambda: (output / "run.h5").exists()))
        time.sleep(0.15 * seconds)
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
        want, seconds = self.undisturbed()
        output = self.folder / "walltime"
        self.run_in_lives(output, seconds, *LONG)
        self.assertEqual(adapter_digest(output, 2), want)

    def test_full_tuning_depends_as_little_on_stops(self):
        options = ("--tune", "full", "--rounds", 2, "--local-steps", 20, "--keep-last", 0)
        whole, output = self.folder / "full", self.folder / "full_stopped"
        seconds = self.run_whole(whole, 1, *options)
        self.run_in_lives(output, seconds, *options)
        self.assertEqual(model_digest(output, 2), model_digest(whole, 2))

    def test_cohorts_depend_as_little_on_stops(self):
        """Clients that share their passes do so again after a stop."""
        whole, output = self.folder / "cohort_whole", self.folder / "cohort_stopped"
        seconds = self.run_whole(whole, 4, *LONG, "--cohort", 2)
        self.run_in_lives(output, seconds, *LONG, "--cohort", 2)
        self.assertEqual(adapter_digest(output, 2), adapter_digest(whole, 2))

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


if __name__ == "__main__":
    unittest.main(verbosity=2)
