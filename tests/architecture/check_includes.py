#!/usr/bin/env python3
"""tests/architecture/check_includes.py: holds the sources to the order of the house.

    check_includes.py ROOT

Reads the #include lines (and a few words) of include/, src/ and tests/ below ROOT, and how wide the
lines of all code are; prints every violation as "file:line: reason", and ends with 1 if there is
one. Python's standard library only.
"""

import pathlib
import re
import sys

# A folder includes only itself and folders to its left.
ORDER = [
    "core",
    "io",
    "tensor",
    "comm",
    "text",
    "model",
    "train",
    "federation",
    "experiment",
    "app",
]
# Clients are trained without knowing of ranks.
WITHOUT_COMM = {"text", "model", "train"}
# Folders that may not know each other.
TWINS = [
    ("tensor/cpu", "tensor/cuda"),
    ("tensor/cpu", "tensor/cuda_stub"),
    ("tensor/cuda", "tensor/cuda_stub"),
]
# Vendor headers, and the places below src/ where they may be included; the same places below tests/
# may, except that in tests MPI belongs to the main of the parallel tests.
VENDORS = [
    ("mpi.h", re.compile(r"mpi(-ext|_.*|cxx)?\.h(pp)?|.*/mpi\.h"), ["src/comm", "tests/support"]),
    ("hdf5.h", re.compile(r"(.*/)?(hdf5(_hl)?|H5.*)\.h(pp)?"), ["src/io", "tests/io"]),
    # tests/core too: what stands left of io cannot read its fixtures through fedit/io/json.h.
    ("nlohmann", re.compile(r"nlohmann/.*"), ["src/io", "tests/io", "tests/core"]),
    ("Boost.Program_options", re.compile(r"boost/program_options.*"), ["src/app", "tests/app"]),
    ("oneDNN", re.compile(r"(oneapi/)?(dnnl/)?dnnl.*\.hp?p?"), ["src/tensor", "tests/tensor"]),
    (
        "Highway",
        re.compile(r"hwy/.*"),
        ["src/tensor", "tests/tensor", "src/federation", "tests/federation"],
    ),
    (
        "CUDA",
        re.compile(
            r"cu(da|blas|rand|dnn|tlass|solver|sparse|pti).*|cub/.*|thrust/.*"
            r"|nvtx3?/.*|nvToolsExt\.h|nvml\.h"
        ),
        ["src/tensor/cuda", "tests/tensor/cuda", "src/comm/nccl"],
    ),
    ("NCCL", re.compile(r"nccl.*\.h"), ["src/comm/nccl"]),
]
ENVIRONMENT_PLACES = ["src/app", "tests/app", "tests/support", "tests/kill", "tests/slurm"]
MAX_LINES = 499
MAX_COLUMNS = 100
CPP_SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".in"}
SCRIPT_SUFFIXES = {".py", ".sh", ".sbatch", ".cmake"}
CODE_FOLDERS = ["include", "src", "tests", "analysis", "bench", "cmake", "data", "jobs"]

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
GETENV = re.compile(r"\b(?:secure_)?getenv\s*\(|\b(?:un)?setenv\s*\(|\bputenv\s*\(|\benviron\b")
LINE_COMMENT = re.compile(r"//.*")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
NAMED_PATH = re.compile(r"^(?://|#|\"\"\")\s*([\w./-]+\.(?:h|cpp|cu|cuh|py|sh)(?:\.in)?):")


def is_below(path, places):
    return any(path == place or path.startswith(place + "/") for place in places)


def folder_of(path):
    """The folder that a file stands in: "src/tensor/cpu/x.cpp" -> "tensor", "src/x.cpp" -> ""."""
    parts = path.split("/")
    if parts[:2] == ["include", "fedit"]:
        return parts[2] if len(parts) > 3 else ""
    return parts[1] if len(parts) > 2 else ""


def included_folder(root, path, target):
    """(folder, path below src/, is it private) of a header of ours, or None."""
    if target.startswith("fedit/"):
        return target.split("/")[1], target.removeprefix("fedit/"), False
    for below in (
        target.removeprefix("src/"),
        str(pathlib.PurePosixPath(path).parent / target).removeprefix("src/"),
    ):
        if (root / "src" / below).is_file() and below.split("/")[0] in ORDER:
            return below.split("/")[0], below, True
    return None


def check_order(path, folder, target, ours):
    """Reasons why a file of `folder` may not include the header `ours` of the house."""
    other, below, private = ours
    if other not in ORDER:
        yield f'"{target}": there is no folder {other}'
        return
    if folder in ORDER:
        if ORDER.index(other) > ORDER.index(folder):
            yield f'"{target}": {folder} may not include {other}, which is to its right'
        if other == "comm" and folder in WITHOUT_COMM:
            yield f'"{target}": {folder} may not include comm'
    if private and path.startswith("include/"):
        yield f'"{target}": a public header includes a private one'
    elif private and other != folder:
        yield f'"{target}": a private header of another folder'
    for a, b in TWINS:
        for mine, theirs in ((a, b), (b, a)):
            if is_below(path, ["src/" + mine]) and is_below(below, [theirs]):
                yield f'"{target}": {mine} and {theirs} may not include each other'


def check_vendors(path, quoted, target):
    for name, pattern, places in VENDORS:
        if pattern.fullmatch(target) and not is_below(path, places):
            yield f"<{target}>: {name} is included only in {', '.join(places)}"
    if path.startswith("include/"):
        # The standard library's headers have neither a dot nor a slash in their names.
        if not quoted and re.search(r"[./]", target):
            yield f"<{target}>: a public header includes only fedit/ and the standard library"
        if quoted and not target.startswith("fedit/"):
            yield f'"{target}": a public header includes others as "fedit/..."'


def check_include(root, path, folder, quoted, target):
    if ".." in target.split("/"):
        yield f'"{target}": no ".." in an include'
        return
    yield from check_vendors(path, quoted, target)
    ours = included_folder(root, path, target) if quoted else None
    if ours:
        yield from check_order(path, folder, target, ours)


def check_first_line(path, lines):
    """A file opens with a comment that says what it is; a path in it must be the file's own."""
    first = next((line for line in lines if not line.startswith("#!")), "")
    if path.endswith(".py"):
        says = first.startswith(('"""', "# "))
    else:
        says = first.startswith("// ")
    if not says or len(first.split()) < 4:
        yield "the file does not open with a comment that says what it is"
        return
    named = NAMED_PATH.match(first)
    if named and not ("/" + path).endswith("/" + named.group(1)):
        yield f"the first comment names another file: {named.group(1)}"


def check_source(root, path, lines):
    """(line, reason) of what breaks the order of the house in one file."""
    suffix = pathlib.PurePosixPath(path).suffix
    folder = folder_of(path)
    if path.startswith(("include/", "src/")) and folder not in ORDER:
        yield 1, f'"{folder}" is no folder of the house: {", ".join(ORDER)}'
    if len(lines) > MAX_LINES:
        yield len(lines), f"{len(lines)} lines; a file has at most {MAX_LINES}"
    for reason in check_first_line(path, lines):
        yield 1, reason
    if suffix not in CPP_SUFFIXES:
        return
    # Highway compiles its "-inl.h" headers once for each instruction set: they guard themselves.
    if suffix in (".h", ".cuh") and not path.endswith("-inl.h") and "#pragma once" not in lines:
        yield 1, "a header without #pragma once"
    for number, line in enumerate(lines, 1):
        include = INCLUDE.match(line)
        if include:
            target = include.group(1) or include.group(2)
            for reason in check_include(root, path, folder, include.group(1) is not None, target):
                yield number, reason
        elif GETENV.search(LINE_COMMENT.sub("", STRING.sub('""', line))) and not is_below(
            path, ENVIRONMENT_PLACES
        ):
            yield number, "the environment is read only in src/app"


def check_file(root, path):
    """(line, reason) of each violation in one file."""
    lines = (root / path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS:
            yield number, f"{len(line)} columns; a line has at most {MAX_COLUMNS}"
    source = pathlib.PurePosixPath(path).suffix in CPP_SUFFIXES | {".py"}
    if source and path.startswith(("include/", "src/", "tests/")):
        yield from check_source(root, path, lines)


def code_files(root):
    paths = [root / "CMakeLists.txt"]
    for top in CODE_FOLDERS:
        paths += sorted((root / top).rglob("*"))
    for path in paths:
        is_code = path.suffix in CPP_SUFFIXES | SCRIPT_SUFFIXES or path.name == "CMakeLists.txt"
        if is_code and path.is_file():
            yield path.relative_to(root).as_posix()


def check(root):
    """All violations below `root`, as "file:line: reason"."""
    root = pathlib.Path(root)
    return [
        f"{path}:{line}: {reason}"
        for path in code_files(root)
        for line, reason in check_file(root, path)
    ]


def main(arguments):
    if len(arguments) != 1 or not (pathlib.Path(arguments[0]) / "include" / "fedit").is_dir():
        print(
            "usage: check_includes.py ROOT, the folder with include/, src/ and tests/",
            file=sys.stderr,
        )
        return 2
    violations = check(arguments[0])
    for violation in violations:
        print(violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
