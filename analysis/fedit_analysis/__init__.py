"""Reads the log of a fedit run: `open_run(folder)` gives its tables as pandas data frames."""

from .run import InputError, Run, open_run

__all__ = ["InputError", "Run", "open_run"]
