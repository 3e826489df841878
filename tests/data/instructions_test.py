"""The shipped records are what the script writes, complete, apart and consistent."""

import json
import re
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"
CATEGORIES = {"brainstorming", "classification", "closed_qa", "creative_writing", "general_qa",
              "information_extraction", "open_qa", "summarization"}
WITH_CONTEXT = {"closed_qa", "information_extraction", "summarization"}


def read(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def question(record):
    return record["instruction"], record["context"]


class Instructions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.train, cls.test = read("instructions.jsonl"), read("test.jsonl")

    def test_script_writes_the_same_bytes_again(self):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            script = DATA / "make_instructions.py"
            subprocess.run([sys.executable, "-B", script, "--output", folder], check=True)
            for name in ("instructions.jsonl", "test.jsonl"):
                self.assertEqual((Path(folder) / name).read_bytes(),
                                 (DATA / name).read_bytes(), name)

    def test_each_category_has_its_count(self):
        self.assertEqual(Counter(r["category"] for r in self.train), dict.fromkeys(CATEGORIES, 160))
        self.assertEqual(Counter(r["category"] for r in self.test), dict.fromkeys(CATEGORIES, 10))

    def test_fields_are_complete(self):
        for record in self.train + self.test:
            with self.subTest(record=record):
                self.assertEqual(set(record), {"instruction", "context", "response", "category"})
                self.assertTrue(record["instruction"].strip())
                self.assertTrue(record["response"].strip())
                if record["category"] in WITH_CONTEXT:
                    self.assertTrue(record["context"].strip())

    def test_no_text_was_left_unfilled(self):
        for record in self.train + self.test:
            text = " ".join(filter(None, record.values()))
            self.assertIsNone(re.search(r"[{}]|  |\bNone\b|\.\.", text), text)
            self.assertLessEqual(15, len(text.split()), text)
            self.assertLessEqual(len(text.split()), 200, text)

    def test_no_question_occurs_twice_nor_in_both_files(self):
        asked = Counter(map(question, self.train + self.test))
        self.assertEqual([q for q, count in asked.items() if count > 1], [])

    def test_held_out_texts_are_new(self):
        seen = {r["context"] for r in self.train if r["context"]}
        self.assertEqual([r for r in self.test if r["context"] in seen], [])

    def test_held_out_open_questions_ask_for_known_facts(self):
        known = {r["response"] for r in self.train if r["category"] == "open_qa"}
        asked = {r["response"] for r in self.test if r["category"] == "open_qa"}
        self.assertEqual(asked - known, set())

    def test_a_thing_has_one_price_everywhere(self):
        prices = {}
        pattern = re.compile(r"(\d+) penn(?:y|ies) for an? ([a-z ]+?)(?: and|\.)"
                             r"|\b[Aa]n? ([a-z ]+) costs (\d+) penn|\bnew ([a-z ]+) for (\d+) penn")
        for record in self.train + self.test:
            for a, b, c, d, e, f in pattern.findall(record["context"] + record["response"]):
                prices.setdefault(b or c or e, set()).add(int(a or d or f))
        self.assertGreaterEqual(len(prices), 18)
        self.assertEqual({thing: p for thing, p in prices.items() if len(p) > 1}, {})


if __name__ == "__main__":
    unittest.main()
