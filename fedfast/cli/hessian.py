"""`fedfast hessian RUN...`: how sharp the models of finished runs are."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import measuring, measuring_flags
from .flag_parser import answered

if TYPE_CHECKING:
    from ..metrics.hessian.of_runs import Wanted
    from ..metrics.hessian.spectrum import Spectrum

USAGE = """\
usage: fedfast hessian RUN... [options]

Measures the Hessian of the mean loss: the largest eigenvalues of each label's global model on the
training data, of clients' local models on their own samples and on the training data. Prints a
table; writes hessian.csv into each run's folder, and figures. The runs are left as they are.

  --labels A,B       of the runs (default all)
  --top N            eigenvalues of each model (default 1)
  --trace            also the trace of the global model's Hessian, with its standard error
  --density          also the density of its eigenvalues
  --clients 0,3,7    also these clients' models, as the next round would train them
  --samples N        at most, of the training data and of each client (default 1000)
  --steps N          of Lanczos runs, at most (default 100)
  --seed N           of samples and random vectors (default 0)
  --batch-statistics N   norms take the statistics of batches of N samples, as in training, in
                     place of running ones, and derivatives go through them
  --out DIR          where figures go (default the first RUN)
  --format png,pdf   of figures
"""
CHOICES = {"format": measuring_flags.FORMATS}  # what TAB offers
UNSURE = "*"  # behind values of Lanczos runs that did not converge


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for runs or options that cannot be used."""
    return answered(argv, USAGE, lambda: _measure(_options(argv)))


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = measuring_flags.flags("hessian", USAGE)
    for name, default in {"--top": 1, "--samples": 1000, "--steps": 100, "--seed": 0}.items():
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--batch-statistics", type=int)
    for name in ("--trace", "--density"):
        parser.add_argument(name, action="store_true")
    return measuring_flags.options_of(parser, argv)


def _wanted(options: argparse.Namespace) -> Wanted:
    from ..metrics.hessian.of_runs import Wanted

    return Wanted(
        clients=options.clients or (),
        top=options.top,
        trace=options.trace,
        density=options.density,
        samples=options.samples,
        steps=options.steps,
        seed=options.seed,
        batch_statistics=options.batch_statistics,
    )


def _measure(options: argparse.Namespace) -> int:
    from ..metrics.hessian.of_runs import measure
    from ..metrics.hessian.spectrum import NAME
    from ..report import hessian_figures

    wanted = _wanted(options)
    found, files = measuring.measured(
        options,
        NAME,
        lambda run, tell: measure(run, wanted, tell),
        clients=bool(options.clients),
    )
    print(_table(found, wanted))
    figures = hessian_figures.figures(found)
    out = options.out or options.runs[0]
    print(*files, *measuring.saved(figures, out, options.format), sep="\n")
    return 0


def _table(found: Sequence[Spectrum], wanted: Wanted) -> str:
    from ..report.text_table import aligned

    heads = ["label", "round", "model", "data", "samples"]
    heads += [f"lambda_{i + 1}" for i in range(wanted.top)] + ["trace"] * wanted.trace
    lines = [aligned(heads, [_cells(one, wanted.trace) for one in found])]
    if wanted.batch_statistics is not None:
        lines.append(f"norms: by the statistics of batches of {wanted.batch_statistics} samples")
    if any(map(_unsure, found)):
        lines.append(f"{UNSURE} not converged: a lower bound; --steps allows more steps")
    return "\n".join(lines)


def _unsure(one: Spectrum) -> bool:
    """Whether more steps would tell more: of a model that has diverged there is nothing to tell."""
    return not one.converged and not math.isnan(one.values[0])


def _cells(one: Spectrum, trace: bool) -> list[str]:
    mark = UNSURE if _unsure(one) else ""
    model = f"client {one.model}" if one.model.isdecimal() else one.model
    cells = [one.label, str(one.round), model, one.data, str(one.samples)]
    cells += [f"{value:.4g}{mark}" for value in one.values]
    if trace:
        cells.append("" if one.trace is None else f"{one.trace[0]:.4g} ± {one.trace[1]:.2g}")
    return cells
