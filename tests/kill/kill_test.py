"""A run killed at any instant ends with the bytes of the run that was never killed."""

import concurrent.futures
import os
import random
import signal
import sys
import time
import unittest

from training import TrainingTest, adapter_digest, children, finish, wait_for, wait_until_gone

MPIEXEC, FAULTY, FEDIT = sys.argv.pop(), sys.argv.pop(), sys.argv.pop()
POINTS = ("start", "created", "written", "synced", "renamed", "folder_synced")
MOMENTS = 20
SIDE_BY_SIDE = 3  # a short run is mostly mpirun waiting for itself
SHORT = ("--rounds", 2, "--local-steps", 1, "--client-fraction", 0.4, "--keep-last", 1)
ROUNDS = 4
LONG = ("--rounds", ROUNDS, "--local-steps", 40, "--keep-last", 2)


class Kill(TrainingTest):
    fedit, mpiexec = FEDIT, MPIEXEC

    def undisturbed(self, name, options, rounds):
        """The bytes of a run that is not killed, and the seconds it takes on one rank."""
        output = self.folder / name
        seconds = self.run_whole(output, 1, *options)
        return adapter_digest(output, rounds), seconds

    def nothing_half_written(self, output):
        """Whatever has a final name is whole: the program itself reads every one."""
        for path in (*output.glob("run.h5"), *output.glob("checkpoints/*.h5")):
            code, said = finish_inspect(path)
            self.assertEqual(code, 0, f"{path}: {said}")
        for adapter in output.glob("adapters/round_*"):
            code, said = finish_inspect(adapter)
            self.assertEqual(code, 0, f"{adapter}: {said}")

    def test_killed_at_every_named_point(self):
        want, _ = self.undisturbed("points_undisturbed", SHORT, 2)

        def strike(case):
            """Whether the fault came before the run's end."""
            action, point, count = case
            output = self.folder / f"{action}_{point}_{count}"
            code, said = self.program.run(output, 0, *SHORT, program=FAULTY,
                                          fault=f"{action}:{point}:{count}")
            if code == 0:
                return False
            self.assertEqual(code, -signal.SIGKILL, said)
            self.nothing_half_written(output)
            code, said = self.program.run(output, 2, *SHORT)
            self.assertEqual(code, 0, said)
            self.assertEqual(adapter_digest(output, 2), want)
            left = [p for p in output.rglob("*") if "fedit-tmp" in p.name]
            self.assertEqual(left, [], "temporary files stay")
            return True

        cases = [(action, point, count) for point in POINTS
                 for action in (("kill", "lose") if point == "written" else ("kill",))
                 for count in (1, 2, 4, 7, 9)]
        self.assertGreaterEqual(sum(self.side_by_side(strike, cases)), 25)

    def side_by_side(self, check, cases):
        """The results of cases that do not depend on time; one that fails names itself."""
        with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            waiting = [(case, pool.submit(check, case)) for case in cases]
        results = []
        for case, result in waiting:
            with self.subTest(case=case):
                results.append(result.result())
        return results

    def test_a_full_disk_ends_the_run_and_loses_nothing(self):
        want, _ = self.undisturbed("full_undisturbed", SHORT, 2)

        def fill(count):
            output = self.folder / f"full_{count}"
            code, said = self.program.run(output, 1, *SHORT, program=FAULTY,
                                          fault=f"full:written:{count}")
            self.assertIn(code, (0, 1), said)
            self.assertIn("No space left on device", said)
            self.nothing_half_written(output)
            code, said = self.program.run(output, 2, *SHORT)
            self.assertEqual(code, 0, said)
            self.assertEqual(adapter_digest(output, 2), want)

        self.side_by_side(fill, (1, 3, 9))

    def test_a_cohort_killed_between_its_files_begins_anew(self):
        """Files of its clients that are not of one moment are not used: bits would differ."""
        options = ("--rounds", 1, "--local-steps", 60, "--keep-last", 1, "--cohort", 3)
        want, seconds = self.undisturbed("cohort_undisturbed", options, 1)
        between = 0
        for count in range(1, 7):
            output = self.folder / f"cohort_{count}"
            with self.subTest(count=count):
                # The time limit has clients saved while they train, one file after the other.
                self.program.run(output, 0, *options, "--max-walltime", 0.4 * seconds / 60,
                                 program=FAULTY, fault=f"kill:renamed:{count}")
                saved = len(list(output.glob("state/round_000000/client_*.h5")))
                between += saved == 1
                code, said = self.program.run(output, 2, *options)
                self.assertEqual(code, 0, said)
                self.assertEqual(adapter_digest(output, 1), want)
        self.assertGreaterEqual(between, 1, "no kill fell between the files of a cohort")

    def kill_one(self, job, moment, victims):
        ranks = [pid for pid in children(job.pid)]
        victim = job.pid if victims == "mpirun" or not ranks else ranks[moment % len(ranks)]
        os.kill(victim, signal.SIGKILL)
        finish(job)
        self.assertEqual(wait_until_gone(ranks), [], "ranks outlive their job")

    def test_killed_at_twenty_random_moments(self):
        want, seconds = self.undisturbed("moments_undisturbed", LONG, ROUNDS)
        chance = random.Random(20)
        output = self.folder / "moments"
        killed = 0
        for moment in range(60):
            job = self.program.start(output, (1, 2, 4)[moment % 3], *LONG)
            time.sleep(chance.uniform(0.05, 0.2 * seconds))
            if job.poll() is not None:  # finished before the moment came: begin anew
                code, said = finish(job)
                self.assertEqual(code, 0, said)
                self.assertEqual(adapter_digest(output, ROUNDS), want)
                output = self.folder / f"moments_{moment}"
                continue
            self.kill_one(job, moment, ("mpirun", "rank")[moment % 2])
            self.nothing_half_written(output)
            killed += 1
            if killed == MOMENTS:
                break
        self.assertEqual(killed, MOMENTS)
        code, said = self.program.run(output, 2, *LONG)
        self.assertEqual(code, 0, said)
        self.assertEqual(adapter_digest(output, ROUNDS), want)

    def test_a_kill_costs_only_the_clients_in_training(self):
        """Finished clients of a long round are on disk, and are not trained again."""
        slow = ("--rounds", 1, "--local-steps", 300, "--keep-last", 1)
        output = self.folder / "uploads"
        job = self.program.start(output, 1, *slow)
        saved = lambda: list(output.glob("state/round_000000/client_*.h5"))
        self.assertTrue(wait_for(saved), "no finished client was written")
        times = {path: path.stat().st_mtime_ns for path in saved()}
        self.kill_one(job, 0, "rank")
        code, said = self.program.run(output, 2, *slow)
        self.assertEqual(code, 0, said)
        self.assertTrue(times)
        self.assertEqual(adapter_digest(output, 1),
                         self.undisturbed("uploads_undisturbed", slow, 1)[0])


def finish_inspect(path):
    import subprocess
    done = subprocess.run([FEDIT, "inspect", path], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    unittest.main(verbosity=2)
