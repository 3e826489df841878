"""Runs are read into data frames and shown on one page that loads nothing."""

import contextlib
import importlib.util
import io
import os
import re
import sys
import tempfile
import threading
import unittest
from html.parser import HTMLParser
from pathlib import Path

HERE = Path(__file__).resolve().parent
NEEDED = ("h5py", "jinja2", "matplotlib", "pandas")
SKIPPED = 77
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if missing:
    print(f"skipped: {sys.executable} has no {', '.join(missing)}")
    sys.exit(SKIPPED)

sys.path[:0] = [str(HERE), str(HERE.parents[1] / "analysis")]
import h5py  # noqa: E402
import run_file  # noqa: E402
from fedit_analysis import InputError, open_run  # noqa: E402
from fedit_analysis.command import main  # noqa: E402
from fedit_analysis.report import count, seconds, size  # noqa: E402

SECTIONS = ["figures", "losses", "category_losses", "client_losses", "partition", "phases",
            "clients", "lives", "settings"]


class Page(HTMLParser):
    """What a browser would see: texts, drawings by section, and everything that would be loaded."""

    def __init__(self, text):
        super().__init__()
        self.sections, self.drawings, self.loads, self.texts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "section":
            self.sections.append(attributes["id"])
        if tag == "svg":
            self.drawings.append(self.sections[-1])
        if tag in ("script", "link", "iframe"):
            self.loads.append(tag)
        for name in ("src", "href", "xlink:href"):
            if not attributes.get(name, "#").startswith(("#", "data:")):
                self.loads.append(attributes[name])

    def handle_data(self, data):
        self.texts.append(data.strip())


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=".")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "a run & more"
        self.folder.mkdir()
        self.log = self.folder / "run.h5"

    def command(self, *arguments):
        """(exit code, what was printed, the page or None)."""
        output, printed = self.folder / "report.html", io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = main([*map(str, arguments or [self.folder]), "-o", str(output)])
        return code, printed.getvalue(), output.read_text() if output.exists() else None


class OpenRun(WithFolder):
    def test_rounds_have_the_values_of_the_log(self):
        run_file.write(self.log)
        rounds = open_run(self.folder).rounds
        self.assertEqual(rounds["round"].tolist(), [0, 1, 2, 3])
        self.assertEqual(rounds["train_loss"].tolist(), [3.0, 2.75, 2.5, 2.25])
        self.assertEqual(rounds["eval_loss"].isna().tolist(), [True, False, True, False])
        self.assertEqual(rounds["a_later_column"].tolist(), [0, 2, 4, 6])

    def test_clients_evaluation_and_lives_have_the_values_of_the_log(self):
        run_file.write(self.log)
        run = open_run(self.folder)
        self.assertEqual(len(run.clients), 4 * 3)
        rejected = run.clients[run.clients["rejected"] == 1]
        self.assertEqual(rejected[["round", "client"]].values.tolist(), [[1, 1]])
        last = run.evaluation[run.evaluation["round"] == 3].set_index("category")["loss"]
        self.assertEqual(last.index.tolist(), ["all", *run_file.CATEGORIES])
        self.assertAlmostEqual(last["要約"], 3.2 - 0.75 + 0.4)
        self.assertEqual(run.lives["hosts"].tolist(), ["node-a", "node-a node-b"])
        self.assertEqual(run.lives["world_size"].tolist(), [2, 4])

    def test_partition_is_a_row_a_client_and_a_column_a_category(self):
        run_file.write(self.log)
        table = open_run(self.folder).partition
        self.assertEqual(table.columns.tolist(), run_file.CATEGORIES)
        self.assertEqual(table.loc[1].tolist(), [28, 35, 2, 9])

    def test_clients_that_train_alone_have_their_own_evaluation(self):
        run_file.write(self.log, local=True)
        run = open_run(self.folder)
        own = run.client_evaluation
        self.assertEqual(list(zip(own["client"], own["category"], own["loss"])),
                         run_file.local_evaluation())
        self.assertEqual(run.evaluation["loss"].tolist(), [1.5, 1.75, 2.0, 2.25, 2.5])
        page = Page(self.command()[2])
        self.assertIn("client_skills", page.drawings)
        self.assertIn("2.25", page.texts, "client 1's loss of the first category")

    def test_attributes_and_configuration(self):
        run_file.write(self.log)
        run = open_run(self.folder)
        self.assertEqual((run.attributes["seed"], run.attributes["identity"]), (7, "f00d"))
        self.assertEqual(run.configuration, {"model": "models/tiny <b>", "rounds": "6",
                                             "learning-rate": "0.003"})

    def test_columns_that_a_log_does_not_have_are_unknown(self):
        run_file.write(self.log)
        run = open_run(self.folder)
        self.assertTrue(run.clients["update_norm"].isna().all())
        self.assertTrue(run.evaluation["records"].isna().all())

    def test_state_follows_the_last_life(self):
        for reason, state in (("done", "finished"), ("running", "in progress"),
                              ("stopped", "stopped, to be continued"), ("failed", "failed")):
            run_file.write(self.log, end_reason=reason)
            self.assertEqual(open_run(self.folder).state, state)

    def test_a_log_that_is_missing_for_a_moment_is_awaited(self):
        other = self.folder / "new.h5"
        run_file.write(other)
        timer = threading.Timer(0.3, os.replace, (other, self.log))
        timer.start()
        self.addCleanup(timer.join)
        self.assertEqual(len(open_run(self.folder).rounds), 4)


class Report(WithFolder):
    def test_page_has_all_sections_and_loads_nothing(self):
        run_file.write(self.log)
        code, _, text = self.command()
        page = Page(text)
        self.assertEqual(code, 0)
        self.assertEqual(page.sections, SECTIONS)
        self.assertEqual(page.drawings, SECTIONS[1:6])
        self.assertEqual(page.loads, [])
        self.assertIsNone(re.search(r"https?://|@import|url\((?!#)", text))

    def test_page_shows_values_and_foreign_letters_as_text(self):
        run_file.write(self.log)
        page = Page(self.command()[2])
        for text in ("a run & more", "finished", "4 of 6", "3.000 → 2.250", "要約", "Erzählung",
                     "models/tiny <b>", "node-a node-b", "rejected update", "f00d"):
            self.assertIn(text, page.texts)

    def test_same_log_gives_the_same_page(self):
        run_file.write(self.log)
        self.assertEqual(self.command()[2], self.command()[2])

    def test_run_before_its_first_round(self):
        run_file.write(self.log, rounds=0, end_reason="running")
        code, printed, text = self.command()
        page = Page(text)
        self.assertEqual((code, page.sections), (0, SECTIONS))
        self.assertEqual(page.drawings, ["partition"])
        self.assertIn("No round is finished yet.", page.texts)
        self.assertIn("in progress", page.texts)
        self.assertIn("0 rounds, in progress", printed)

    def test_run_without_an_evaluation(self):
        run_file.write(self.log, rounds=1, evaluate=False, end_reason="running")
        page = Page(self.command()[2])
        self.assertNotIn("category_losses", page.drawings)
        self.assertIn("No evaluation by category yet.", page.texts)
        self.assertIn("losses", page.drawings)

    def test_long_run_of_many_clients(self):
        run_file.write(self.log, rounds=90, clients=40)
        code, _, text = self.command()
        page = Page(text)
        self.assertEqual((code, page.drawings, page.loads), (0, SECTIONS[1:6], []))
        self.assertIn("The last 3 rounds, newest first. 60 more rows are in the log.", page.texts)
        self.assertLess(len(text), 2_000_000)

    def test_log_without_the_optional_tables(self):
        run_file.write(self.log)
        with h5py.File(self.log, "r+") as file:
            for table in ("partition", "evaluation", "lives", "clients"):
                del file[table]
        page = Page(self.command()[2])
        self.assertEqual(page.drawings, ["losses", "phases"])
        self.assertIn("The log names no start of the program.", page.texts)


class BadInput(WithFolder):
    def check(self, what, where, remedy, *arguments):
        code, printed, page = self.command(*arguments)
        self.assertEqual((code, page), (2, None), printed)
        first, second, third = printed.splitlines()
        self.assertIn(what, first)
        self.assertIn(where, second)
        self.assertIn(remedy, third)

    def test_no_such_folder(self):
        self.check("the run's folder does not exist", "nowhere", "fedit train --output",
                   self.folder / "nowhere")

    def test_file_in_place_of_a_folder(self):
        run_file.write(self.log)
        self.check("is a file, not a folder", "run.h5", "fedit train --output", self.log)

    def test_folder_without_a_log(self):
        self.check("the folder has no run.h5", "run.h5", "wait until the first round")

    def test_file_that_is_not_hdf5(self):
        self.log.write_text("round,loss\n0,3.0\n" * 100)
        self.check("run.h5 is not a readable HDF5 file", "run.h5", "copied whole")

    def test_truncated_log(self):
        run_file.write(self.log)
        self.log.write_bytes(self.log.read_bytes()[:5000])
        self.check("run.h5 is not a readable HDF5 file", "run.h5", "copied whole")

    def test_later_schema(self):
        run_file.write(self.log, schema=2)
        self.check("schema version 2", "attribute schema_version", "reads version 1")

    def test_file_of_another_kind(self):
        h5py.File(self.log, "w").close()
        self.check("no schema version", "attribute schema_version", "reads version 1")

    def test_table_without_its_key(self):
        run_file.write(self.log)
        with h5py.File(self.log, "r+") as file:
            del file["clients/client"]
        self.check('no column "client"', "/clients", "it has: loss_first")

    def test_columns_of_different_length(self):
        run_file.write(self.log)
        with h5py.File(self.log, "r+") as file:
            del file["rounds/train_loss"]
            file["rounds/train_loss"] = [1.0]
        self.check("differ in length", "/rounds", "the log is damaged")

    def test_partition_that_is_no_table(self):
        run_file.write(self.log)
        with h5py.File(self.log, "r+") as file:
            del file["partition/client_category"]
            file["partition/client_category"] = [1, 2, 3]
        self.check("3 counts do not make rows of 4", "client_category", "the log is damaged")

    def test_output_that_cannot_be_written(self):
        run_file.write(self.log)
        printed = io.StringIO()
        with contextlib.redirect_stderr(printed):
            code = main([str(self.folder), "-o", str(self.folder / "no" / "report.html")])
        self.assertEqual(code, 1)
        self.assertIn("the page cannot be written (No such file", printed.getvalue())

    def test_errors_can_be_caught(self):
        with self.assertRaises(InputError):
            open_run(self.folder / "nowhere")


class Words(unittest.TestCase):
    def test_numbers_read_well(self):
        self.assertEqual(count(1234567), "1\u202f234\u202f567")
        self.assertEqual([seconds(s) for s in (2.34, 61, 3725, float("nan"))],
                         ["2.3 s", "1 min 01 s", "1 h 02 min", "–"])
        self.assertEqual([size(s) for s in (12, 2048, 3 * 2**30, 5 * 2**40, None)],
                         ["12 B", "2.0 KiB", "3.0 GiB", "5.0 TiB", "–"])


if __name__ == "__main__":
    unittest.main()
