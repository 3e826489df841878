"""`fedit bench` under mpirun: the end of a round, timed, the same adapter on every rank."""

import json
import pathlib
import subprocess
import sys
import unittest

MPIEXEC, FEDIT = sys.argv.pop(), sys.argv.pop()
CONFIG = pathlib.Path(__file__).resolve().parents[2] / "data" / "tiny-llama" / "config.json"


def bench(ranks, *options):
    return subprocess.run(
        [MPIEXEC, "--bind-to", "none", "-n", str(ranks), FEDIT, "bench", "--model-config", CONFIG,
         "--device", "cpu", "--threads", "1", "--output-format", "json", *options],
        capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL)


class Aggregation(unittest.TestCase):
    def test_parts_add_up_on_any_number_of_ranks(self):
        for ranks in (2, 4):
            done = bench(ranks, "--steps", "2")
            self.assertEqual(done.returncode, 0, done.stderr)
            facts = json.loads(done.stdout)
            self.assertEqual(facts["ranks"], ranks)
            self.assertEqual(facts["adapter_bytes"], 4 * facts["adapter_parameters"])
            parts = [facts[name] for name in ("add_seconds", "sum_and_step_seconds")]
            self.assertGreater(min(parts), 0)
            self.assertAlmostEqual(sum(parts), facts["aggregation_seconds"])
            self.assertAlmostEqual(60 * facts["share_of_a_minute"], facts["aggregation_seconds"])

    def test_says_how_it_sums(self):
        for how, why in (("auto", "not all ranks have a GPU"), ("mpi", "as was asked for")):
            done = bench(2, "--steps", "1", "--reduce", how)
            self.assertEqual(json.loads(done.stdout)["summed_by"],
                             f"MPI through host memory ({why})")

    def test_a_bad_model_is_one_error_of_all_ranks(self):
        done = bench(2, "--lora-target-modules", "no_proj")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stderr.count("fedit: error:"), 1, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
