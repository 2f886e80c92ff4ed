"""`fedfast report RUN...`: figures of runs, and a page that holds all of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import fail
from .setting import USER

USAGE = """\
usage: fedfast report RUN... [options]

Draws the runs in these folders and below them: curves with bands over seeds, accuracy against
bytes, clients, partition, time. Writes each figure in the width of a paper's column, and a page,
report.html, that holds all of them with tables, environment and configurations.

  --out DIR          where to write (default RUN/report; of several runs runs/report)
  --format png,pdf   of the figures' files: png (300 dots per inch), pdf (fonts embedded), svg, eps
  --target VALUE     an accuracy, 0.8 or 80%: marked in figures, and rounds and bytes until it
  --title TEXT       of the page (default the names of the folders)
"""


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for runs or options that cannot be used."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    try:
        options = _options(argv)
        return _write(options)
    except USER as error:
        return fail(str(error))


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "fedfast report", usage=USAGE[7:], add_help=False, allow_abbrev=False
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--format", default="png,pdf")
    parser.add_argument("--target")
    parser.add_argument("--title")
    return parser.parse_args(argv)


def _write(options: argparse.Namespace) -> int:
    from ..report.page import write

    runs: list[Path] = options.runs
    out = options.out or (runs[0] if len(runs) == 1 else Path("runs")) / "report"
    page, *figures = write(runs, out, options.format.split(","), options.target, options.title)
    print(page)
    if figures:
        print("  " + "  ".join(path.name for path in figures))
    return 0
