"""`fedfast landscape RUN...`: the loss around and between the models of finished runs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import measuring, measuring_flags
from .flag_parser import answered

if TYPE_CHECKING:
    from ..landscape.of_runs import Progress, Wanted
    from ..landscape.panels import Panel

USAGE = """\
usage: fedfast landscape RUN... [options]

Evaluates models on a grid around the global model of each label (filter-normalised random
directions), around clients' models, or on the plane through given models. Writes landscape.csv
into each run's folder, and figures: contours on shared levels, curves along the first direction.
Lines and planes measured before stay there; the same one of the same model is measured anew.

  --labels A,B       of the runs (default all)
  --clients 0,3      also around these clients' local models, on their own samples and the test set
  --plane NAMES      instead: through these models, global,3,7 or 0,3,7 (a plane), global,3 (a line)
  --line             one direction in place of two
  --grid N           points along each direction (default 51)
  --range R          how far: filter norms of random directions; of planes, room around the models
                     in units of 0.3 of their extent (default 1)
  --samples N        at most, of the test set and of each client (default 1000)
  --seed N           of directions and samples (default 0)
  --out DIR          where figures go (default the first RUN)
  --format png,pdf   of figures
  --html             also surfaces that turn, one self-contained page (extra fedfast[landscape])
"""
CHOICES = {"format": measuring_flags.FORMATS}  # what TAB offers


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for runs or options that cannot be used."""
    return answered(argv, USAGE, lambda: _measure(_options(argv)), ModuleNotFoundError)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = measuring_flags.flags("landscape", USAGE)
    parser.add_argument("--plane", type=measuring_flags.names, default=())
    for name, default in {"--grid": 51, "--samples": 1000, "--seed": 0}.items():
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--range", type=float, default=1.0)
    for name in ("--line", "--html"):
        parser.add_argument(name, action="store_true")
    options = measuring_flags.options_of(parser, argv)
    if not 0 < options.range < math.inf:
        raise ValueError(f"--range: expected a finite number > 0; got {options.range}")
    if options.line and len(options.plane) == 3:
        raise ValueError(f"--line: expected no plane beside it; got {','.join(options.plane)}")
    if options.html and (options.line or len(options.plane) == 2):
        raise ValueError("--html: expected planes; got a line, whose curves are in the figures")
    return options


def _wanted(options: argparse.Namespace) -> Wanted:
    from ..landscape.of_runs import Wanted

    return Wanted(
        clients=options.clients or (),
        plane=options.plane,
        grid=options.grid,
        reach=options.range,
        samples=options.samples,
        seed=options.seed,
        dimensions=1 if options.line else 2,
    )


def _measure(options: argparse.Namespace) -> int:
    from ..landscape.of_runs import panels
    from ..landscape.panels import HEAD, NAME
    from ..report import landscape_page

    wanted = _wanted(options)
    if options.html:
        landscape_page.plotly()  # said before the work, not after it
    found, files = measuring.measured(
        options,
        NAME,
        lambda run, tell: panels(run, wanted, _counted(run.label, tell)),
        same=HEAD,
        clients=bool(options.clients) or any(map(str.isdecimal, options.plane)),
    )
    print(*files, sep="\n")
    out = options.out or options.runs[0]
    paths = _drawn(found, out, options.format)
    if options.html:
        paths.append(landscape_page.write(found, out / f"{found[0].stem}.html"))
    print(*paths, sep="\n")
    return 0


def _counted(label: str, tell: Callable[[str], None]) -> Progress:
    return lambda done, points: tell(f"{label}: {done:,} of {points:,} models")


def _drawn(panels: Sequence[Panel], out: Path, formats: Sequence[str]) -> list[Path]:
    from ..report import landscape_curves, landscape_figures

    stem = panels[0].stem
    figures = {f"{stem}-curves": landscape_curves.curves(panels)}
    if len(panels[0].axes) == 2:
        figures = {stem: landscape_figures.contours(panels)} | figures
    return measuring.saved(figures, out, formats)
