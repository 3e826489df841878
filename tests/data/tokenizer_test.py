"""The shipped tokenizer has the agreed form, fits the model, and is what the script trains."""

import importlib.metadata
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"
MODEL = DATA / "tiny-llama"
PINNED = (DATA / "requirements.txt").read_text().strip()
SKIPPED = 77


def installed():
    try:
        return "tokenizers==" + importlib.metadata.version("tokenizers")
    except importlib.metadata.PackageNotFoundError:
        return "nothing"


def encode(model, text):
    """Naive byte-fallback BPE: the first merge of the list, leftmost, until none applies."""
    rank = {tuple(merge): i for i, merge in enumerate(model["merges"])}
    parts = list("\u2581" + text.replace(" ", "\u2581"))
    while True:
        best = min((rank.get(pair, len(rank)), i) for i, pair in
                   enumerate(zip(parts, parts[1:] + [""])))
        if best[0] == len(rank):
            break
        parts[best[1]:best[1] + 2] = ["".join(parts[best[1]:best[1] + 2])]
    return [token for part in parts for token in
            ([part] if part in model["vocab"] else [f"<0x{b:02X}>" for b in part.encode()])]


class Tokenizer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.file = json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8"))
        cls.model = cls.file["model"]

    def test_form(self):
        self.assertEqual(self.model["type"], "BPE")
        self.assertTrue(self.model["byte_fallback"])
        self.assertTrue(self.model["fuse_unk"])
        self.assertEqual(self.model["unk_token"], "<unk>")
        self.assertIsNone(self.file["pre_tokenizer"])
        self.assertEqual([n["type"] for n in self.file["normalizer"]["normalizers"]],
                         ["Prepend", "Replace"])
        self.assertEqual([d["type"] for d in self.file["decoder"]["decoders"]],
                         ["Replace", "ByteFallback", "Fuse", "Strip"])
        self.assertEqual(self.file["post_processor"]["single"][0],
                         {"SpecialToken": {"id": "<s>", "type_id": 0}})
        self.assertEqual([t["content"] for t in self.file["added_tokens"]],
                         ["<unk>", "<s>", "</s>"])

    def test_ids_have_no_gap_and_bytes_follow_the_marks(self):
        tokens = sorted(self.model["vocab"], key=self.model["vocab"].get)
        self.assertEqual([self.model["vocab"][t] for t in tokens], list(range(len(tokens))))
        self.assertEqual(tokens[:3], ["<unk>", "<s>", "</s>"])
        self.assertEqual(tokens[3:259], [f"<0x{byte:02X}>" for byte in range(256)])

    def test_each_merge_gives_a_token_within_one_word(self):
        for left, right in self.model["merges"]:
            self.assertIn(left + right, self.model["vocab"])
            self.assertNotIn("\u2581", (left + right)[1:])

    def test_text_of_the_world_and_strange_text(self):
        self.assertEqual(encode(self.model, "The market day of Aldermoor is Tuesday."),
                         ["\u2581The", "\u2581market", "\u2581day", "\u2581of", "\u2581Aldermoor",
                          "\u2581is", "\u2581Tuesday", "."])
        self.assertEqual(encode(self.model, "\u4f60\n"),
                         ["\u2581", "<0xE4>", "<0xBD>", "<0xA0>", "<0x0A>"])

    def test_model_fits(self):
        config = json.loads((MODEL / "config.json").read_text())
        shown = json.loads((MODEL / "tokenizer_config.json").read_text())
        vocabulary = self.model["vocab"]
        self.assertEqual(config["vocab_size"], len(vocabulary))
        self.assertEqual(config["bos_token_id"], vocabulary[shown["bos_token"]])
        self.assertEqual(config["eos_token_id"], vocabulary[shown["eos_token"]])
        self.assertEqual(config["max_position_embeddings"], shown["model_max_length"])

    @unittest.skipUnless(installed() == PINNED, f"needs {PINNED}")
    def test_script_trains_the_same_bytes_again(self):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            subprocess.run([sys.executable, "-B", DATA / "make_tokenizer.py", "--output", folder],
                           check=True)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                self.assertEqual((Path(folder) / name).read_bytes(),
                                 (MODEL / name).read_bytes(), name)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    sys.exit(SKIPPED if result.wasSuccessful() and result.skipped else not result.wasSuccessful())
