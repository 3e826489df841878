"""The report of a run that the program itself made, while it goes on and when it is finished."""

import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

FEDIT = sys.argv.pop()
ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
missing = [name for name in ("h5py", "jinja2", "matplotlib", "pandas")
           if importlib.util.find_spec(name) is None]
if missing:
    print(f"skipped: {sys.executable} has no {', '.join(missing)}")
    sys.exit(SKIPPED)

sys.path.insert(0, str(ROOT / "analysis"))
from fedit_analysis import open_run  # noqa: E402
from fedit_analysis.command import main  # noqa: E402

ROUNDS = 3


class RealRun(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        tiny = ROOT / "data" / "tiny-llama"
        self.model = self.folder / "model"
        subprocess.run([FEDIT, "init", "--model-config", tiny / "config.json",
                        "--output", self.model],
                       check=True, capture_output=True, timeout=60)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (self.model / name).write_bytes((tiny / name).read_bytes())

    def test_report_of_a_run_that_goes_on_and_of_the_finished_one(self):
        run, page = self.folder / "run", self.folder / "report.html"
        test = ROOT / "data" / "test.jsonl"
        job = subprocess.Popen([FEDIT, "train", "--model", self.model, "--data", test,
                                "--eval-data", test, "--output", run, "--num-clients", "4",
                                "--rounds", str(ROUNDS), "--threads", "1",
                                "--learning-rate", "0.002", "--progress", "none"],
                               stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not (run / "run.h5").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(main([str(run), "-o", str(page)]), 0)
        self.assertIn("in progress", page.read_text())
        _, said = job.communicate(timeout=120)
        self.assertEqual(job.returncode, 0, said)

        self.assertEqual(main([str(run), "-o", str(page)]), 0)
        text = page.read_text()
        self.assertIn("finished", text)
        self.assertNotIn("in progress", text)
        log = open_run(run)
        self.assertEqual(list(log.rounds["round"]), list(range(ROUNDS)))
        self.assertEqual(len(log.clients), ROUNDS * 4)
        self.assertLess(log.rounds["eval_loss"].iloc[-1], log.rounds["eval_loss"].iloc[0])
        self.assertEqual(set(log.evaluation["round"]), {-1, 0, 1, 2})
        self.assertEqual(log.partition.to_numpy().sum(), 80)


if __name__ == "__main__":
    unittest.main(verbosity=2)
