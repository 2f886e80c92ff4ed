"""`fedfast explain RUN...`: where models of finished runs look, and which classes they know."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import measuring, measuring_flags
from .flag_parser import answered

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from ..data import Samples
    from ..runs.run_models import RunModels

USAGE = """\
usage: fedfast explain RUN... [options]

Of the global model and of clients' models after local training: accuracy on each class of the test
set (classes.csv in each run's folder and a heat map), and Grad-CAM of some of its images (extra
fedfast[explain]; for models with convolutions). The runs are left as they are.

  --labels A,B       of the runs (default all)
  --clients 0,1      whose local models (default none: the global model alone)
  --images N         under Grad-CAM, drawn from the test set (default 4); 0: no Grad-CAM
  --layer NAME       whose activations are weighed (default the last convolution)
  --seed N           of the images (default 0)
  --out DIR          where figures go (default the first RUN)
  --format png,pdf   of figures
"""
CHOICES = {"format": measuring_flags.FORMATS}  # what TAB offers
GLOBAL = "global model"


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for runs or options that cannot be used."""
    return answered(argv, USAGE, lambda: _explain(_options(argv)), ModuleNotFoundError)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = measuring_flags.flags("explain", USAGE)
    parser.add_argument(
        "--label", dest="labels", type=measuring_flags.names
    )  # as it was called before
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--layer")
    parser.add_argument("--seed", type=int, default=0)
    options = measuring_flags.options_of(parser, argv)
    for name in ("images", "seed"):
        if (value := getattr(options, name)) < 0:
            raise ValueError(f"--{name}: expected 0 or more; got {value}")
    return options


def _explain(options: argparse.Namespace) -> int:
    from ..explain.class_accuracy import NAME
    from ..runs import measured_rows
    from ..runs.models_of import open_run

    out: Path = options.out or options.runs[0]
    there = measuring.labels_in(options.runs, options.labels)
    if options.clients:
        measuring.check_clients(there)
    for folder in there:
        measured_rows.check(folder, NAME)  # before the work
    for folder, labels in there.items():
        before = measuring.before_labels(folder, options.runs).replace(" ", "-")
        for label in labels:
            for name, figure in _figures(open_run(folder, label), options):
                figures = {f"{name}-{before}{label}": figure}
                print(*measuring.saved(figures, out, options.format), sep="\n")
    return 0


def _figures(run: RunModels, options: argparse.Namespace) -> Iterator[tuple[str, Figure]]:
    from ..explain import class_accuracy
    from ..explain.class_accuracy import NAME
    from ..report import explain_figures
    from ..runs import measured_rows

    if run.test is None:
        raise ValueError(f"{run.folder}: expected a run with a test set")
    models = _models(run, options.clients or ())
    maps = _maps(run, models, options)  # first: a layer that does not fit is told at once
    parts = run.simulation._components
    counts = class_accuracy(parts.evaluator(), models, run.test, parts.design.traits.classes)
    print(measured_rows.write(run.folder, NAME, list(counts.rows(run.label))))
    yield "classes", explain_figures.classes(counts, run.label)
    if maps is not None:
        yield "grad-cam", maps


def _maps(
    run: RunModels, models: Mapping[str, Tensor], options: argparse.Namespace
) -> Figure | None:
    """Grad-CAM; None if not asked for, or if there is neither a layer named nor a convolution."""
    from ..explain import has_convolutions
    from ..report import explain_figures

    if run.test is None or not options.images:
        return None
    if options.layer is None and not has_convolutions(run.module):
        print(
            "no Grad-CAM: the model has no convolutions (--layer names another layer with places)"
        )
        return None
    images = _drawn(run.test, options.images, options.seed)
    maps = {name: _map(run, row, images, options.layer) for name, row in models.items()}
    return explain_figures.maps(images.x, images.y, maps)


def _models(run: RunModels, ids: Sequence[int]) -> dict[str, Tensor]:
    local = zip(ids, run.local_rows(ids), strict=True)
    return {GLOBAL: run.global_row()} | {f"client {i}": row for i, row in local}


def _drawn(samples: Samples, number: int, seed: int) -> Samples:
    """So many, drawn without replacement, at most all."""
    import numpy as np
    import torch

    number = min(number, len(samples))
    drawn = np.random.default_rng(seed).choice(len(samples), number, replace=False)
    return samples.take(torch.from_numpy(np.sort(drawn)))


def _map(run: RunModels, row: Tensor, images: Samples, layer: str | None) -> Tensor:
    from ..explain import grad_cam

    return grad_cam(run.filled(row), images.inputs(run.layout.dtype), images.y, layer)
