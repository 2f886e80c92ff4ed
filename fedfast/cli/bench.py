"""`fedfast bench algorithms`: what a round of every algorithm costs beside FedAvg's; `fedfast bench
metrics`: what rounds cost with each of their metrics beside rounds without."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import fail

USAGE = """\
usage: fedfast bench algorithms|metrics [--only NAME,...] [--rounds N] [--model cnn|mlp]
                                        [--threads N] [--out FOLDER]

algorithms: a round of every algorithm and of FedAvg in turns, on the same clients and batches:
the McMahan CNN (or an MLP 784-200-10) on 28x28, 100 clients x 500 samples, 10 per round, B = 50.
Prints a table; writes algorithms.csv and algorithms.png to FOLDER (default bench-algorithms).

metrics: the same for rounds with each metric of rounds (`metrics:` of a config) and without, in
turns, and with all of them; writes metrics.csv (default FOLDER bench-metrics).
"""
CHOICES = {"model": ("cnn", "mlp")}  # what TAB offers

WHAT = ("algorithms", "metrics")

# Left out unless named: the yardstick, what trains another kind of model, what trains on all data.
APART = ("fedavg", "fedcr", "centralized")


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for wrong use."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    if argv[0] not in WHAT:
        return fail(f"expected 'algorithms' or 'metrics' first, found {argv[0]!r}")
    try:
        options = _options(argv[0], argv[1:])
        return _algorithms(options) if argv[0] == "algorithms" else _metrics(options)
    except ValueError as error:
        return fail(str(error))


def _options(what: str, argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(f"fedfast bench {what}", usage=USAGE[7:], add_help=False)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=CHOICES["model"], default="cnn")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path(f"bench-{what}"))
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


def _metrics(options: argparse.Namespace) -> int:
    from ..report.costs import CostBenchmark
    from ..report.metric_costs import csv, known, measure, table

    names = known([name for name in options.only.split(",") if name])
    benchmark = CostBenchmark(options.model, options.rounds, options.threads)
    costs = [measure(benchmark, name) for name in names]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "metrics.csv").write_text(csv(costs), encoding="utf-8")
    print(table(costs))
    print(f"{benchmark.about}\n{options.out}/metrics.csv")
    return 0
