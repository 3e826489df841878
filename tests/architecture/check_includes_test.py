#!/usr/bin/env python3
"""tests/architecture/check_includes_test.py: plants one violation of each rule in a copy of the
sources and asks that check_includes.py finds it, and nothing else.

    check_includes_test.py ROOT
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import check_includes

ROOT = pathlib.Path()
SCRIPT = pathlib.Path(check_includes.__file__)


def text_of(path, body):
    """A file that breaks no rule but those that `body` breaks."""
    lines = [
        f"// {path}: planted by a test.",
        *(["#pragma once"] if path.endswith(".h") else []),
        *body,
    ]
    return "\n".join(lines) + "\n"


# name: (files as path -> lines after the first comment, what must be reported of the last file).
PLANTED = {
    "core includes io": (
        {"src/core/planted.cpp": ['#include "fedit/io/json.h"']},
        "core may not include io",
    ),
    "public header of tensor includes model": (
        {"include/fedit/tensor/planted.h": ['#include "fedit/model/decoder.h"']},
        "tensor may not include model",
    ),
    "federation includes experiment": (
        {"src/federation/planted.cpp": ['#include  "fedit/experiment/config.h"  // why not']},
        "may not include experiment",
    ),
    "experiment includes app by a private header": (
        {"src/app/planted_a.h": [], "src/experiment/planted.cpp": ['# include "app/planted_a.h"']},
        "may not include app",
    ),
    "text includes comm": (
        {"src/text/planted.cpp": ['#include "fedit/comm/communicator.h"']},
        "text may not include comm",
    ),
    "model includes comm": (
        {"include/fedit/model/planted.h": ['#include "fedit/comm/communicator.h"']},
        "model may not include comm",
    ),
    "train includes comm": (
        {"src/train/planted.cpp": ['#include "fedit/comm/communicator.h"']},
        "train may not include comm",
    ),
    "a test of core includes io": (
        {"tests/core/planted_test.cpp": ['#include "fedit/io/json.h"']},
        "core may not include io",
    ),
    "a private header from afar": (
        {"src/io/planted_a.h": [], "src/experiment/planted.cpp": ['#include "io/planted_a.h"']},
        "a private header of another folder",
    ),
    "a public header includes a private one": (
        {"src/io/planted_a.h": [], "include/fedit/io/planted.h": ['#include "io/planted_a.h"']},
        "includes a private one",
    ),
    "cpu includes cuda": (
        {
            "src/tensor/cuda/planted_a.h": [],
            "src/tensor/cpu/planted.cpp": ['#include "tensor/cuda/planted_a.h"'],
        },
        "each other",
    ),
    "cuda includes cpu": (
        {
            "src/tensor/cpu/planted_a.h": [],
            "src/tensor/cuda/planted.cu": ['#include "tensor/cpu/planted_a.h"'],
        },
        "each other",
    ),
    "mpi in experiment": (
        {"src/experiment/planted.cpp": ["#include <mpi.h>"]},
        "mpi.h is included only in src/comm",
    ),
    "mpi in a test of comm": (
        {"tests/comm/planted_test.cpp": ["#include <mpi.h>"]},
        "mpi.h is included only in",
    ),
    "hdf5 in app": (
        {"src/app/planted.cpp": ["#include <hdf5.h>"]},
        "hdf5.h is included only in src/io",
    ),
    "a part of hdf5 in comm": (
        {"src/comm/planted.cpp": ["#include <H5Fpublic.h>"]},
        "hdf5.h is included only in src/io",
    ),
    "nlohmann in text": (
        {"src/text/planted.cpp": ["#include <nlohmann/json.hpp>"]},
        "nlohmann is included only in src/io",
    ),
    "program_options in experiment": (
        {"src/experiment/planted.cpp": ["#include <boost/program_options.hpp>"]},
        "Program_options is included only in src/app",
    ),
    "dnnl in model": (
        {"src/model/planted.cpp": ["#include <oneapi/dnnl/dnnl.hpp>"]},
        "oneDNN is included only in src/tensor",
    ),
    "highway in train": (
        {"src/train/planted.cpp": ["#include <hwy/highway.h>"]},
        "Highway is included only in src/tensor",
    ),
    "cuda in tensor/cpu": (
        {"src/tensor/cpu/planted.cpp": ["#include <cuda_runtime.h>"]},
        "CUDA is included only in src/tensor/cuda",
    ),
    "cuda in tensor/cuda_stub": (
        {"src/tensor/cuda_stub/planted.cpp": ["#include <cublasLt.h>"]},
        "CUDA is included only in",
    ),
    "nccl in tensor/cuda": (
        {"src/tensor/cuda/planted.cu": ["#include <nccl.h>"]},
        "NCCL is included only in src/comm",
    ),
    "fmt in a public header": (
        {"include/fedit/core/planted.h": ["#include <fmt/format.h>"]},
        "only fedit/ and the standard library",
    ),
    "a system header in a public header": (
        {"include/fedit/io/planted.h": ["#include <unistd.h>"]},
        "only fedit/ and the standard library",
    ),
    "a public header includes its neighbour": (
        {"include/fedit/io/planted.h": ['#include "json.h"']},
        'others as "fedit/..."',
    ),
    "two dots": ({"src/io/planted.cpp": ['#include "../core/rng.h"']}, 'no ".." in an include'),
    "a new room": ({"src/utils/planted.cpp": []}, '"utils" is no folder of the house'),
    "a file beside the rooms": ({"src/planted.cpp": []}, '"" is no folder of the house'),
    "a header of no room": (
        {"src/io/planted.cpp": ['#include "fedit/utils/x.h"']},
        "there is no folder utils",
    ),
    "500 lines": ({"src/core/planted.cpp": [""] * 499}, "500 lines; a file has at most 499"),
    "101 columns": ({"src/core/planted.cpp": ["// " + 98 * "x"]}, "101 columns; a line has at"),
    "a wide script": ({"bench/planted.py": ["# " + 99 * "é"]}, "101 columns; a line has at"),
    "getenv in io": (
        {"src/io/planted.cpp": ['const char* home = std::getenv("HOME");']},
        "the environment is read only in src/app",
    ),
    "getenv in a test": (
        {"tests/io/planted_test.cpp": ['const char* home = getenv ("HOME");']},
        "the environment is read only in",
    ),
}

# What looks like a violation and is none.
ALLOWED = {
    "include/fedit/train/planted.h": [
        "#include <vector>",
        "#include <cstdint>",
        '#include "fedit/model/decoder.h"',
    ],
    "src/comm/planted.cpp": ["#include <mpi.h>", '#include "comm/planted_a.h"'],
    "src/comm/planted_a.h": [],
    "src/io/planted.cpp": [
        "#include <hdf5.h>",
        "#include <nlohmann/json.hpp>",
        "#include <fmt/format.h>",
        "#include <unistd.h>",
    ],
    "src/app/planted.cpp": [
        "#include <boost/program_options.hpp>",
        'const char* home = std::getenv("HOME");',
    ],
    "src/tensor/cpu/planted.cpp": ["#include <dnnl.hpp>", "#include <hwy/highway.h>"],
    "src/tensor/cuda/planted.cu": ["#include <cuda_runtime.h>"],
    "tests/support/planted.cpp": ["#include <mpi.h>"],
    "tests/experiment/planted_test.cpp": ['#include "fedit/comm/communicator.h"'],
    "src/core/planted.cpp": [
        "// getenv( would be wrong here",
        'const char* text = "getenv(";',
        "// " + 97 * "x",
        *[""] * 495,
    ],
}

# First lines that say nothing, or say what is not so.
BAD_OPENINGS = {
    '#include "fedit/core/rng.h"\n': "does not open with a comment",
    "// planted\n": "does not open with a comment",
    "\n// core/planted.cpp: one line too late.\n": "does not open with a comment",
    "// core/other.cpp: copied from there.\n": "comment names another file: core/other.cpp",
}


def numbered(text, number):
    """`text` with file names of its own, so that all cases can be planted at once."""
    return text.replace("planted", f"planted_{number}")


def cases():
    """(name, files as path -> text, what must be reported of the last file)."""
    for name, (bodies, reason) in PLANTED.items():
        yield name, {path: text_of(path, body) for path, body in bodies.items()}, reason
    for text, reason in BAD_OPENINGS.items():
        yield text, {"src/core/planted.cpp": text}, reason
    text = "// core/planted.h: guarded by nothing.\n"
    yield "no guard", {"src/core/planted.h": text}, "without #pragma once"


class PlantedViolations(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        ignored = shutil.ignore_patterns("__pycache__")
        for top in ("include", "src", "tests"):
            shutil.copytree(ROOT / top, self.root / top, ignore=ignored)

    def write(self, files):
        for path, text in files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)

    def found(self):
        """What is reported of planted files; the copied ones may have violations of their own."""
        return [v for v in check_includes.check(self.root) if "/planted" in v.split(":")[0]]

    def test_each_planted_violation_is_found_and_nothing_else(self):
        expected = []
        for number, (name, files, reason) in enumerate(cases()):
            files = {numbered(p, number): numbered(t, number) for p, t in files.items()}
            self.write(files)
            expected.append((name, list(files)[-1], reason))
        found = self.found()
        for name, path, reason in expected:
            with self.subTest(name):
                mine = [v for v in found if v.startswith(path + ":")]
                self.assertTrue(any(reason in v for v in mine), mine)
        guilty = {path for _, path, _ in expected}
        self.assertEqual([v for v in found if v.split(":")[0] not in guilty], [])

    def test_what_is_allowed_is_not_reported(self):
        self.write({path: text_of(path, body) for path, body in ALLOWED.items()})
        text = "// tensor/cpu/planted-inl.h: once an instruction set.\n"
        self.write({"src/tensor/cpu/planted-inl.h": text})
        self.assertEqual(self.found(), [])


class Command(unittest.TestCase):
    def run_on(self, *arguments):
        return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)

    def test_prints_all_violations_and_ends_with_one(self):
        with tempfile.TemporaryDirectory() as folder:
            core = pathlib.Path(folder) / "include/fedit/core"
            core.mkdir(parents=True)
            (core / "a.h").write_text(
                "// core/a.h: includes too much.\n#pragma once\n#include <mpi.h>\n"
            )
            (core / "b.h").write_text("// core/b.h: is not guarded.\n")
            result = self.run_on(folder)
            self.assertEqual(result.returncode, 1)
            self.assertIn(
                "include/fedit/core/a.h:3: <mpi.h>: mpi.h is included only in", result.stdout
            )
            self.assertIn(
                "include/fedit/core/a.h:3: <mpi.h>: a public header includes only", result.stdout
            )
            self.assertIn("include/fedit/core/b.h:1: a header without #pragma once", result.stdout)
            (core / "a.h").unlink()
            (core / "b.h").unlink()
            result = self.run_on(folder)
            self.assertEqual((result.returncode, result.stdout), (0, ""))

    def test_without_a_source_tree_ends_with_two(self):
        for arguments in ((), ("/nonexistent",), (".", ".")):
            self.assertEqual(self.run_on(*arguments).returncode, 2)


if __name__ == "__main__":
    ROOT = pathlib.Path(sys.argv.pop(1))
    unittest.main()
