"""The command fedit-report."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from .report import render
from .run import InputError, open_run


def _write(path, text):
    """Replaces the file in one step, so that a browser never reads half a page."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def main(arguments=None):
    """Returns the exit code: 0 done, 1 the page could not be written, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="fedit-report",
        description="Makes one HTML page of a fedit run, also while it goes on.")
    parser.add_argument("run", metavar="RUN", help="the run's output folder, which has run.h5")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE",
                        help="the page to write (default: report.html)")
    options = parser.parse_args(arguments)
    try:
        run = open_run(options.run)
        _write(options.output, render(run))
    except InputError as error:
        print(f"fedit-report: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"fedit-report: error: the page cannot be written ({error.strerror})\n"
              f"  where: {options.output}\n  do:    give a file in a folder that you may write to",
              file=sys.stderr)
        return 1
    print(f"{options.output}: {len(run.rounds)} rounds, {run.state}")
    return 0
