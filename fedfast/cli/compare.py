"""`fedfast compare RUN...`: what runs, sweeps and reproduced rows reached, and at what cost."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from . import fail
from .flag_parser import FlagParser
from .setting import USER

if TYPE_CHECKING:
    from ..comparison import Comparison

USAGE = """\
usage: fedfast compare RUN... [options]

Compares what is below the folders RUN...: runs, sweeps, rows of `fedfast reproduce`. Runs that
differ in nothing but their seeds are one line: final, best and mean of the last accuracies with
their standard deviations, rounds and bytes to a target accuracy, also relative to a baseline, and
paired tests over seeds.

  --target A       the accuracy, 0.8 or 80%, or baseline: what the baseline comes to (default: the
                   highest that more than half of the seeds of every group reach)
  --baseline NAME  a group, or a label of the configs (default: fedavg, or the first group)
  --last N         so many of the last tested rounds are averaged (default 10)
  --metric NAME    a column of history.csv, of metrics too (default accuracy)
  --mode max|min   whether more of it is better (default: by the column's name)
  --equal KIND     rounds, bytes or rounds,bytes: who is ahead where all runs have done, or sent,
                   as much
  --format KIND    table, markdown, latex, csv or json (default: by the suffix of FILE, else table)
  --out FILE       write there instead of to the terminal
"""
FORMATS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}
KINDS = ("table", "markdown", "latex", "csv", "json")
# What TAB offers.
CHOICES = {"format": KINDS, "equal": ("rounds", "bytes"), "mode": ("auto", "max", "min")}


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for wrong use and for folders without runs."""
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    try:
        options = _options(argv)
        found = _compare(options)
        if options.out is None:
            _show(found, options.format or "table")
        else:
            _write(found, options)
    except USER as error:
        return fail(str(error))
    return 0


def _options(argv: list[str]) -> argparse.Namespace:
    from .._messages import unknown
    from ..better import MODES
    from ..comparison import LAST

    parser = FlagParser("fedfast compare", USAGE)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--target")
    parser.add_argument("--baseline")
    parser.add_argument("--last", type=int, default=LAST)
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--mode", default="auto")
    parser.add_argument("--equal", default="")
    parser.add_argument("--format")
    parser.add_argument("--out", type=Path)
    options = parser.flags(argv)
    if not options.runs:
        raise ValueError("expected folders of runs, found nothing; see fedfast compare --help")
    if options.format is not None and options.format not in KINDS:
        raise unknown("--format", options.format, KINDS)
    if options.mode not in MODES:
        raise unknown("--mode", options.mode, MODES)
    return options


def _compare(options: argparse.Namespace) -> Comparison:
    """The comparison; what was left out is said on stderr, a line for each."""
    from ..comparison import compare

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            return compare(
                options.runs,
                options.target,
                options.baseline,
                options.last,
                options.metric,
                options.equal,
                options.mode,
            )
        finally:
            for warning in caught:
                print(f"fedfast: {warning.message}", file=sys.stderr)


def _show(found: Comparison, kind: str) -> None:
    if kind == "table":
        found.print()
    else:
        print(_text(found, kind), end="")


def _text(found: Comparison, kind: str) -> str:
    if kind == "table":
        return str(found)
    made: str = getattr(found, f"to_{kind}")()
    return made


def _write(found: Comparison, options: argparse.Namespace) -> None:
    from ..files import atomic

    out: Path = options.out
    kind = options.format or FORMATS.get(out.suffix.lower(), "table")
    text = _text(found, kind)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic(out, lambda to: to.write_text(text, encoding="utf-8"))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ValueError(f"--out: cannot write {out}: {why}") from error
    print(out)
