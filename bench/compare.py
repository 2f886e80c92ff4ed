"""What became slower between two runs of `make bench`: `python bench/compare.py OLD.json NEW.json`.

    --fail-over 15   percent; exit code 1 if a benchmark became slower by more
    --all            a row for every benchmark, not only for those that changed

A benchmark's cost is its time times what its yardstick did per second just before and after it
(`yardsticks.py`): the yardstick's work in that time. So another machine, or a busy one, changes the
costs of all alike. Memory-bound benchmarks (`bytes` in extra_info) are held against a copy, others
(`flops`) against a large product, and those that say neither against what is kinder to them. A
benchmark is slower only if its least time and its median both say so, and if the middle halves of
its times, new and old, do not overlap.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from runs import Benchmark, Times, read


@dataclass(frozen=True)
class Change:
    """A benchmark in both runs: medians in seconds, and costs."""

    name: str
    seconds: tuple[float, float]
    old: Times
    new: Times

    @property
    def best(self) -> float:
        """Least cost, new over old."""
        return self.new.min / self.old.min

    @property
    def median(self) -> float:
        """Median cost, new over old."""
        return self.new.median / self.old.median

    def slower(self, limit: float) -> bool:
        """By more than `limit`, a fraction, and beyond the spread of both."""
        return min(self.best, self.median) > 1 + limit and self.new.q1 > self.old.q3

    def faster(self, limit: float) -> bool:
        """The same in the other direction."""
        return max(self.best, self.median) < 1 / (1 + limit) and self.new.q3 < self.old.q1


def ours(path: Path) -> dict[str, Benchmark]:
    """What times fedfast, by name. Raises as `read` does."""
    return {one.fullname: one for one in read(path) if one.contestant == "fedfast"}


def change(old: Benchmark, new: Benchmark) -> Change:
    """By the yardstick that is kinder to the new run.

    Raises ValueError if the runs have no yardstick in common.
    """
    before, after = old.costs(), new.costs()
    shared = before.keys() & after.keys()
    if not shared:
        raise ValueError(f"{new.fullname}: expected a yardstick that both runs have; found none")
    seconds = old.stats.median, new.stats.median
    changes = [Change(new.fullname, seconds, before[name], after[name]) for name in shared]
    return min(changes, key=lambda c: min(c.best, c.median))


def show(changes: Iterable[Change], limit: float) -> Table:
    """The largest ratios first."""
    name = Column("benchmark", overflow="fold")
    table = Table(name, "before, ms", "after, ms", "ratio of medians", "of least", "")
    for c in sorted(changes, key=lambda c: -c.median):
        verdict = "slower" if c.slower(limit) else "faster" if c.faster(limit) else ""
        times = (f"{1e3 * seconds:.4g}" for seconds in c.seconds)
        ratios = f"{c.median:.2f}", f"{c.best:.2f}"
        style = {"slower": "red", "faster": "green"}.get(verdict)
        table.add_row(escape(c.name), *times, *ratios, verdict, style=style)
    return table


def report(old: Path, new: Path, limit: float, all_rows: bool) -> bool:
    """Prints the comparison; whether something became slower. Raises as `read` and `change` do."""
    before, after = ours(old), ours(new)
    both = [name for name in after if name in before]
    if not both:
        raise ValueError(f"{new}: expected a benchmark that is in {old} too; found none")
    changes = [change(before[name], after[name]) for name in both]
    slower = [c for c in changes if c.slower(limit)]
    faster = [c for c in changes if c.faster(limit)]
    if all_rows or slower or faster:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
        console.print(show(changes if all_rows else slower + faster, limit))
    counts = f"{len(slower)} slower and {len(faster)} faster by more than {100 * limit:g} %"
    print(f"{len(both)} benchmarks in both: {counts}")
    for path, names in ((old, before.keys() - after.keys()), (new, after.keys() - before.keys())):
        if names:
            print(f"only in {path.name}: {', '.join(sorted(names))}")
    return bool(slower)


def main(argv: Sequence[str] | None = None) -> int:
    """0: nothing slower; 1: something is; 2: files that cannot be compared."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--fail-over", type=float, default=15.0, metavar="PERCENT")
    parser.add_argument("--all", action="store_true", help="every benchmark")
    options = parser.parse_args(argv)
    if not options.fail_over > 0:
        parser.error(f"--fail-over: expected percent above 0; got {options.fail_over:g}")
    try:
        return int(report(options.old, options.new, options.fail_over / 100, options.all))
    except (OSError, ValueError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
