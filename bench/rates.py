"""A run of `make bench` in rates and ratios: `python bench/rates.py bench/results/.../0001_x.json`.

A row for each benchmark of fedfast: its median, work per second (GB/s, GFLOP/s or samples/s), the
share of its yardstick's rate (a copy's or a large product's, just before and after), and how many
times as long the others of its group take. Copies read what they write first, so in-place
operations can pass 100 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from runs import Benchmark, read

UNITS = (("bytes", 1e9, "GB/s", "copy"), ("flops", 1e9, "GFLOP/s", "sgemm"))


def rate(one: Benchmark) -> tuple[str, str]:
    """Work per second, and the share of the yardstick's; empty where no work is told."""
    extra, seconds = one.extra_info, one.stats.median
    for name, scale, unit, yardstick in UNITS:
        amount = getattr(extra, name)
        if amount and yardstick in extra.yardsticks:
            share = amount / seconds / extra.yardsticks[yardstick].median
            return f"{amount / seconds / scale:.1f} {unit}", f"{share:.0%}"
    return (f"{extra.samples / seconds:,.0f} samples/s", "") if extra.samples else ("", "")


def table(run: Sequence[Benchmark]) -> Table:
    """Benchmarks in the order of the run."""
    name = Column("benchmark", overflow="fold")
    found = Table(name, "median, ms", "rate", "of yardstick", "times as long")
    for one in (b for b in run if b.contestant == "fedfast"):
        others = [b for b in run if b.group == one.group and b.contestant != "fedfast"]
        ratios = [f"{b.contestant} {b.stats.median / one.stats.median:.2f}" for b in others]
        row = f"{1e3 * one.stats.median:.4g}", *rate(one), ", ".join(ratios)
        found.add_row(escape(str(one.group if others else one.fullname)), *row)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 2 if the file is none of `make bench`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    path = parser.parse_args(argv).run
    try:
        run = read(path)
    except (OSError, ValueError) as error:
        print(f"rates.py: {error}", file=sys.stderr)
        return 2
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table(run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
