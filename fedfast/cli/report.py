"""`fedfast report RUN...`: figures of runs, and a page that holds all of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from .flag_parser import FlagParser, answered

USAGE = """\
usage: fedfast report RUN... [options]

Draws the runs in these folders and below them: curves with bands over seeds, accuracy against
bytes, clients, partition, time. Writes each figure in the width of a paper's column, and a page,
report.html, that holds all of them with tables, environment and configurations.

  --out DIR          where to write (default RUN/report; of several runs runs/report)
  --format png,pdf   of the figures' files: png (300 dots per inch), pdf (fonts embedded), svg, eps
  --target VALUE     an accuracy, 0.8 or 80%, or baseline, what the baseline comes to: marked in
                     figures, and rounds and bytes until it
  --baseline NAME    a group, or a label of the configs (default: fedavg, or the first group)
  --equal KIND       rounds, bytes or rounds,bytes: who is ahead where all runs have done as much
  --last N           so many of the last tested rounds are averaged (default 10)
  --title TEXT       of the page (default the names of the folders)
"""
CHOICES = {"format": ("png", "pdf", "svg", "eps"), "equal": ("rounds", "bytes")}  # what TAB offers


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for runs or options that cannot be used."""
    return answered(argv, USAGE, lambda: _write(_options(argv)))


def _options(argv: list[str]) -> argparse.Namespace:
    from ..comparison import LAST

    parser = FlagParser("fedfast report", USAGE)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--format", default="png,pdf")
    parser.add_argument("--target")
    parser.add_argument("--baseline")
    parser.add_argument("--equal", default="")
    parser.add_argument("--last", type=int, default=LAST)
    parser.add_argument("--title")
    options = parser.flags(argv)
    if not options.runs:
        raise ValueError("expected folders of runs, found nothing; see fedfast report --help")
    if options.out is not None and options.out.suffix == ".html":
        raise ValueError(f"--out: expected a folder, which gets report.html; got '{options.out}'")
    return options


def _write(options: argparse.Namespace) -> int:
    from ..report.page import write
    from ..report.text_table import listed

    runs: list[Path] = options.runs
    out = options.out or (runs[0] if len(runs) == 1 else Path("runs")) / "report"
    page, *figures = write(
        runs,
        out,
        options.format.split(","),
        options.target,
        options.title,
        options.baseline,
        options.equal,
        options.last,
    )
    print(page)
    if figures:
        print(listed(path.name for path in figures))
    return 0
