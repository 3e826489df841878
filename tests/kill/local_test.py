"""Clients that train alone (--mode local): on any ranks, stopped and killed, the same bytes."""

import json
import os
import signal
import sys
import time
import unittest

from training import TrainingTest, adapter_digest, children, file_digest, finish, wait_for

MPIEXEC, FEDIT = sys.argv.pop(), sys.argv.pop()
ROUNDS = 3


class Local(TrainingTest):
    fedit, mpiexec = FEDIT, MPIEXEC

    def digests(self, name, ranks, *options):
        """A finished run of --mode local: the bytes of each client's adapter after each round."""
        output = self.folder / name
        code, said = self.program.run(output, ranks, "--mode", "local", *options)
        self.assertEqual(code, 0, said)
        return {(int(folder.parent.name[-6:]), folder.name):
                file_digest(folder / "adapter_model.safetensors")
                for folder in (output / "adapters").glob("round_*/client_*")}

    def results(self, output):
        return {folder.name: file_digest(folder / "adapter_model.safetensors")
                for folder in (output / "adapter").iterdir()}

    def test_nothing_is_averaged(self):
        """One client alone is what a federation of one client is; five go apart, on any ranks."""
        lone = ("--num-clients", 1, "--rounds", ROUNDS, "--local-steps", 10, "--keep-last", 0)
        output = self.folder / "federation_of_one"
        code, said = self.program.run(output, 1, *lone)
        self.assertEqual(code, 0, said)
        self.assertEqual(self.digests("one", 1, *lone),
                         {(n, "client_000000"): adapter_digest(output, n)
                          for n in range(1, ROUNDS + 1)})

        options = ("--num-clients", 5, "--rounds", ROUNDS, "--keep-last", 0)
        digests = self.digests("ranks_1", 1, *options)
        self.assertEqual(len(set(digests.values())), 5 * ROUNDS, "clients have the same adapter")
        for ranks in (2, 4):
            self.assertEqual(self.digests(f"ranks_{ranks}", ranks, *options), digests)

        seen = json.loads(self.program.inspect(self.folder / "ranks_2"))["last_evaluation"]
        whole = {row["client"]: row["loss"] for row in seen if row["category"] == "all"}
        self.assertEqual(sorted(whole), [0, 1, 2, 3, 4])
        self.assertEqual(len(set(whole.values())), 5)

    def test_stops_and_kills_change_no_byte(self):
        options = ("--mode", "local", "--num-clients", 5, "--rounds", 2, "--local-steps", 30,
                   "--checkpoint-every", 2)
        whole = self.folder / "whole"
        seconds = self.run_whole(whole, 1, *options)

        output = self.folder / "stopped"
        self.run_in_lives(output, seconds, *options)
        self.assertEqual(self.results(output), self.results(whole))

        output = self.folder / "killed"
        for _ in range(3):
            job = self.program.start(output, 1, *options)
            wait_for(lambda: (output / "run.h5").exists() or job.poll() is not None)
            time.sleep(0.3 * seconds)
            for pid in [*children(job.pid), job.pid]:
                os.kill(pid, signal.SIGKILL)
            finish(job)
        code, said = self.program.run(output, 2, *options)
        self.assertEqual(code, 0, said)
        self.assertEqual(self.results(output), self.results(whole))

    def test_a_lost_client_is_told(self):
        output = self.folder / "lost"
        options = ("--mode", "local", "--num-clients", 3, "--local-epochs", 1)
        self.assertEqual(self.program.run(output, 1, *options, "--rounds", 1)[0], 0)
        (output / "state" / "round_000000" / "client_000001.h5").unlink()
        code, said = self.program.run(output, 2, *options, "--rounds", 2)
        self.assertEqual(code, 2, said)
        self.assertIn("what client 1 learned in round 1 is lost", said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
