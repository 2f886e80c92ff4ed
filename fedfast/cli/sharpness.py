"""`fedfast sharpness RUN...`: how far the loss rises around models of finished runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from . import measuring, measuring_flags
from .flag_parser import answered

if TYPE_CHECKING:
    from ..metrics.sharpness.sharpness_rows import Sharpness
    from ..runs.run_models import RunModels

USAGE = """\
usage: fedfast sharpness RUN... [options]

Measures the global model of each label on the training data, and clients' models, trained as the
next round would, on their own samples and on the training data: SAM's and ASAM's sharpness, the
surrogate gap, each tensor's, distances from the global model. Prints a table; writes sharpness.csv
into each run's folder, and a figure of the tensors. The runs are left as they are.

  --labels A,B       of the runs (default all)
  --clients 0,3,7    which clients (default those of the next round, 100 at most)
  --rho R            radius of perturbations (default 0.05)
  --asam-rho R       of ASAM's, in the scale of each weight (default 0.5)
  --steps N          of the ascent that finds SAM's perturbation (default 1)
  --samples N        at most, of the training data and of each client (default 1000)
  --out DIR          where figures go (default the first RUN)
  --format png,pdf   of figures
"""
CHOICES = {"format": measuring_flags.FORMATS}  # what TAB offers
HEADS = ("label", "round", "models", "data", "loss")
# Of `MEASURES` without the loss; the surrogate gap is SAM's sharpness of one step.
MEASURED = {
    "sharpness": "SAM sharpness",
    "surrogate_gap": "surrogate gap",
    "adaptive_sharpness": "ASAM sharpness",
}
APART = "flatness distance"
LEGEND = """\
data: training samples of all clients, or each client's own; clients: means
SAM sharpness: rise of the loss within rho = {options.rho:g}; ASAM sharpness: within
  {options.asam_rho:g}, in the scale of each weight
flatness distance: of clients' models from the global model"""


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for runs or options that cannot be used."""
    return answered(argv, USAGE, lambda: _measure(_options(argv)))


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = measuring_flags.flags("sharpness", USAGE)
    parser.add_argument("--rho", type=float, default=0.05)
    parser.add_argument("--asam-rho", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--samples", type=int, default=1000)
    return measuring_flags.options_of(parser, argv)


def _measure(options: argparse.Namespace) -> int:
    from ..metrics.sharpness.of_runs import measure
    from ..metrics.sharpness.sharpness_rows import NAME
    from ..report import sharpness_figures
    from ..report.text_table import aligned

    names = "rho", "asam_rho", "steps", "samples"
    given = {name: getattr(options, name) for name in names}

    def one(run: RunModels, tell: Callable[[str], None]) -> list[Sharpness]:
        if options.clients is None and run.no_local_models:
            print(f"fedfast: without clients: {run.no_local_models}", file=sys.stderr)
        return [measure(run, options.clients, **given, tell=tell)]

    found, files = measuring.measured(options, NAME, one, clients=bool(options.clients))
    heads = [*HEADS, *(MEASURED[what] for what in _shown(options.steps)), APART]
    print(aligned(heads, [line for one in found for line in _lines(one)]))
    print(LEGEND.format(options=options))
    figures = {"sharpness": sharpness_figures.layers(found)}
    out = options.out or options.runs[0]
    print(*files, *measuring.saved(figures, out, options.format), sep="\n")
    return 0


def _shown(steps: int) -> list[str]:
    """The measures that tell something of their own."""
    return [what for what in MEASURED if steps > 1 or what != "surrogate_gap"]


def _lines(one: Sharpness) -> Iterator[tuple[str, ...]]:
    """The global model's, and the means over clients."""
    from ..metrics.sharpness.sharpness_rows import FAR, GLOBAL, OWN, TRAIN

    clients = one.clients
    far = f"{one.mean(clients, '', FAR):.4g}"
    parts = (([GLOBAL], TRAIN, GLOBAL, ""), (clients, OWN, "", far), (clients, TRAIN, "", far))
    for models, data, name, apart in parts:
        if models:
            figures = [
                f"{one.mean(models, data, what):.4g}"
                for what in ("loss", *_shown(one.ascent.steps))
            ]
            who = name or f"{len(models)} clients"
            yield one.label, str(one.round), who, data, *figures, apart
