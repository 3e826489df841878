"""The shipped prompt templates have Shepherd's fields and placeholders."""

import json
import unittest
from pathlib import Path

TEMPLATES = Path(__file__).resolve().parents[2] / "data" / "templates"


class Templates(unittest.TestCase):
    def test_all_are_there(self):
        self.assertEqual(sorted(path.stem for path in TEMPLATES.glob("*.json")),
                         ["chat", "plain", "question_answer"])

    def test_placeholders_and_ends(self):
        for path in TEMPLATES.glob("*.json"):
            with self.subTest(template=path.stem):
                template = json.loads(path.read_text(encoding="utf-8"))
                self.assertEqual(set(template), {"description", "prompt_input", "prompt_no_input",
                                                 "response_split"})
                self.assertEqual(template["prompt_input"].count("{instruction}"), 1)
                self.assertEqual(template["prompt_input"].count("{input}"), 1)
                self.assertEqual(template["prompt_no_input"].count("{instruction}"), 1)
                self.assertNotIn("{input}", template["prompt_no_input"])
                for prompt in (template["prompt_input"], template["prompt_no_input"]):
                    self.assertEqual(prompt.count(template["response_split"]), 1)
                    self.assertTrue(prompt.endswith(template["response_split"] + "\n"))


if __name__ == "__main__":
    unittest.main()
