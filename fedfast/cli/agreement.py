"""`fedfast agreement RUN...`: how far clients' updates agree at the end of finished runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import measuring, measuring_flags
from .flag_parser import answered

if TYPE_CHECKING:
    from ..metrics.agreement.agreement_rows import Agreement

USAGE = """\
usage: fedfast agreement RUN... [options]

Trains clients as the next round of each label would, and compares what they would send: cosines
between clients and with their mean, pairs in conflict tensor by tensor, before and after FedGH's
harmonization, drift. Prints a table; writes agreement.csv into each run's folder, and figures.
The runs are left as they are.

  --labels A,B       of the runs (default all)
  --clients 0,3,7    which clients (default those of the next round, 100 at most)
  --out DIR          where figures go (default the first RUN)
  --format png,pdf   of figures
"""
CHOICES = {"format": measuring_flags.FORMATS}  # what TAB offers
HEADS = (
    *("label", "round", "clients", "cosine with mean", "cosine of pairs"),
    *("conflicts", "FedGH (models)", "FedGH (tensors)", "drift (global)", "drift (mean)"),
)
LEGEND = """\
cosine: of clients' updates with their mean, of pairs of clients
conflicts: share of pairs whose inner product is negative; FedGH: what its
  harmonization leaves of them, by whole models, by single tensors
drift: weighted mean of the squared distances of clients' models from the
  global model, from their mean"""


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for runs or options that cannot be used."""
    return answered(argv, USAGE, lambda: _measure(_options(argv)))


def _options(argv: Sequence[str]) -> argparse.Namespace:
    return measuring_flags.options_of(measuring_flags.flags("agreement", USAGE), argv)


def _measure(options: argparse.Namespace) -> int:
    from ..metrics.agreement.agreement_rows import NAME
    from ..metrics.agreement.of_runs import measure
    from ..report.text_table import aligned

    found, files = measuring.measured(
        options, NAME, lambda run, _: [measure(run, options.clients)], clients=True
    )
    print(aligned(HEADS, list(map(_cells, found))))
    print(LEGEND)
    out = options.out or options.runs[0]
    print(*files, *_drawn(found, out, options.format), sep="\n")
    return 0


def _cells(one: Agreement) -> tuple[str, ...]:
    figures = one.summary
    shares = {name for name in figures if name.startswith("conflicts")}
    texts = (f"{100 * v:.1f} %" if n in shares else f"{v:.4g}" for n, v in figures.items())
    return one.label, str(one.round), str(len(one.ids)), *texts


def _drawn(found: Sequence[Agreement], out: Path, formats: Sequence[str]) -> list[Path]:
    from ..report import agreement_figures

    figures = {"agreement": agreement_figures.matrices(found)}
    for one in found:
        name = (
            "agreement-tensors"
            if len(found) == 1
            else f"agreement-tensors-{one.label.replace(' ', '-')}"
        )
        figures[name] = agreement_figures.tensors(one)
    return measuring.saved(figures, out, formats)
