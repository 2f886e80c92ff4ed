"""`fedfast bench algorithms`: what a round of every algorithm costs beside FedAvg's."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import fail

USAGE = """\
usage: fedfast bench algorithms [--only NAME,...] [--rounds N] [--model cnn|mlp] [--out FOLDER]

Times a round of every algorithm and of FedAvg in turns, on the same clients and batches:
the McMahan CNN (or an MLP 784-200-10) on 28x28, 100 clients x 500 samples, 10 per round, B = 50.
Prints a table; writes algorithms.csv and algorithms.png to FOLDER (default bench-algorithms).
"""
CHOICES = {"model": ("cnn", "mlp")}  # what TAB offers

# Left out unless named: the yardstick, what trains another kind of model, what trains on all data.
APART = ("fedavg", "fedcr", "centralized")


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for wrong use."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    if argv[0] != "algorithms":
        return fail(f"expected 'algorithms' first, found {argv[0]!r}")
    try:
        options = _options(argv[1:])
        return _algorithms(options)
    except ValueError as error:
        return fail(str(error))


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("fedfast bench algorithms", usage=USAGE[7:], add_help=False)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=CHOICES["model"], default="cnn")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("bench-algorithms"))
    options = parser.parse_args(argv)
    if options.rounds < 1:
        raise ValueError(f"rounds: expected at least 1; got {options.rounds}")
    return options


def _algorithms(options: argparse.Namespace) -> int:
    from rich.progress import track

    from ..algorithms import names
    from ..report.costs import CostBenchmark, chart, csv, table

    chosen = [n for n in options.only.split(",") if n] or [n for n in names() if n not in APART]
    benchmark = CostBenchmark(options.model, options.rounds, options.threads)
    costs = [
        benchmark.measure(name)
        for name in track(chosen, "algorithms", disable=not sys.stdout.isatty())
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "algorithms.csv").write_text(csv(costs), encoding="utf-8")
    chart(costs, options.out / "algorithms.png")
    print(table(costs))
    print(f"{benchmark.about}\n{options.out}/algorithms.csv  {options.out}/algorithms.png")
    return 0
