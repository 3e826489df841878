"""The text that the tiny model read first: the same each time, and without the
instructions' questions.
"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"


def corpus(documents):
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "corpus.jsonl"
        subprocess.run([sys.executable, "-B", DATA / "make_corpus.py", "--output", path,
                        "--documents", str(documents)], check=True)
        return path.read_bytes()


class Corpus(unittest.TestCase):
    def test_script_writes_the_same_bytes_again(self):
        self.assertEqual(corpus(100), corpus(100))

    def test_no_question_of_the_instructions_is_in_it(self):
        records = [json.loads(line) for line in corpus(2000).decode().splitlines()]
        self.assertEqual({"text", "category"}, set(records[0]))
        self.assertEqual(len({record["category"] for record in records}), 10)
        text = "\n".join(record["text"] for record in records)
        for name in ("instructions.jsonl", "test.jsonl"):
            for line in (DATA / name).read_text(encoding="utf-8").splitlines():
                self.assertNotIn(json.loads(line)["instruction"], text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
