"""How sharp the models of a finished run are: the global one, and clients' after local training.

lambda_1      largest eigenvalue of H(w), the Hessian of the mean loss, at the global model, of the
              training data
lambda_1_l    at a client's local model, of its own samples
lambda_1_g    at the same local model, of the training data

(Caldarola, Cagnasso, Caputo, Ciccone 2025, "Beyond local sharpness", FedGloSS, Table 1.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data import Samples
from ...runs.few_samples import few
from ...runs.models_of import RunModels
from ...validation.values import Count
from .density import Density
from .solvers import Hessian

Floats = NDArray[np.float64]
NAME = "hessian.csv"
GLOBAL, TRAIN, OWN = "global", "train", "own"  # of models and data
MEMORY = 1 << 30  # bytes, about, of the Lanczos vectors of models that go together


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    clients  whose local models are measured besides the global one
    top      eigenvalues of each model; trace, density: whether of the global model
    samples  at most, drawn without replacement; steps: of Lanczos runs, at most
    """

    clients: tuple[int, ...] = ()
    top: int = 1
    trace: bool = False
    density: bool = False
    samples: int = 1000
    steps: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top", "samples", "steps"):
            Count()(name, getattr(self, name))
        Count(ge=0)("seed", self.seed)


@dataclass(frozen=True)
class Spectrum:
    """Of one model on one set of samples, under one label, after `round`.

    model    "global" or a client's number; data: "train" or "own"; samples: how many
    values   eigenvalues, descending; bounds: some eigenvalue is within this distance of each
    trace    with its standard error; density `[2, G]`: grid and values
    """

    label: str
    round: int
    model: str
    data: str
    samples: int
    values: tuple[float, ...]
    bounds: tuple[float, ...]
    converged: bool
    trace: tuple[float, float] | None = None
    density: Floats | None = None

    def rows(self) -> list[dict[str, object]]:
        """Lines of `hessian.csv`: what, at (a rank, or a point of the grid), value, error."""
        made = [
            {"what": "eigenvalue", "at": i + 1, "value": v, "error": e, "converged": self.converged}
            for i, (v, e) in enumerate(zip(self.values, self.bounds, strict=True))
        ]
        if self.trace is not None:
            made.append({"what": "trace", "value": self.trace[0], "error": self.trace[1]})
        if self.density is not None:
            made += [{"what": "density", "at": t, "value": v} for t, v in self.density.T.tolist()]
        head = {name: getattr(self, name) for name in HEAD}
        empty = {"at": "", "error": "", "converged": ""}
        return [{**head, "what": "", **empty, **row} for row in made]


HEAD = ("label", "round", "model", "data", "samples")


def of_rows(rows: Iterable[Mapping[str, str]]) -> list[Spectrum]:
    """Those of the lines of `hessian.csv`. Raises ValueError for other lines."""
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    try:
        for row in rows:
            groups.setdefault(tuple(row[name] for name in HEAD), []).append(row)
        return [_of_model(head, found) for head, found in groups.items()]
    except KeyError as error:
        raise ValueError(f"{NAME}: expected what `fedfast hessian` writes; {error}") from error


def _of_model(head: tuple[str, ...], rows: Sequence[Mapping[str, str]]) -> Spectrum:
    label, done, model, data, samples = head
    own = {
        what: [row for row in rows if row["what"] == what]
        for what in ("eigenvalue", "trace", "density")
    }
    density = [[float(row[name]) for row in own["density"]] for name in ("at", "value")]
    traces = [(float(row["value"]), float(row["error"])) for row in own["trace"]]
    return Spectrum(
        label=label,
        round=int(done),
        model=model,
        data=data,
        samples=int(samples),
        values=tuple(float(row["value"]) for row in own["eigenvalue"]),
        bounds=tuple(float(row["error"]) for row in own["eigenvalue"]),
        converged=all(row["converged"] == "True" for row in own["eigenvalue"]),
        trace=traces[0] if traces else None,
        density=np.array(density) if own["density"] else None,
    )


def measure(run: RunModels, wanted: Wanted) -> list[Spectrum]:
    """The global model's spectrum, then each client's on its own samples and on the training data.

    A model's figures do not depend, by a bit, on which clients are asked for. Raises ValueError
    for clients that do not exist or take no step.
    """
    train, row = _few(run, run.data.samples, wanted), run.global_row().cpu()
    found = [*_spectra(run, wanted, [(GLOBAL, TRAIN, row, train)], True)]
    models = []
    for i, row in zip(wanted.clients, run.local_rows(wanted.clients), strict=True):
        own = _few(run, run.data.client(i), wanted)
        models += [(str(i), OWN, row, own), (str(i), TRAIN, row, train)]
    each = max(1, MEMORY // (8 * run.layout.trained * wanted.steps))
    for at in range(0, len(models), each):
        found += _spectra(run, wanted, models[at : at + each], False)
    return found


def _few(run: RunModels, samples: Samples, wanted: Wanted) -> Samples:
    return few(samples, wanted.samples, wanted.seed).to("cpu", run.layout.dtype)


def _spectra(
    run: RunModels, wanted: Wanted, models: Sequence[tuple[str, str, Tensor, Samples]], whole: bool
) -> Iterator[Spectrum]:
    """Of models that go together; whole: trace and density too, where they are wanted."""
    rows, samples = torch.stack([row for *_, row, _ in models]), [own for *_, own in models]
    loss, seed = run.simulation._components.design.loss, wanted.seed
    hessian = Hessian(run.module, samples, rows=rows, layout=run.layout, loss=loss, seed=seed)
    found = hessian.eigenvalues(wanted.top, steps=wanted.steps)
    trace = hessian.trace() if whole and wanted.trace else None
    density = hessian.density(steps=wanted.steps) if whole and wanted.density else None
    for k, (model, data, _, own) in enumerate(models):
        yield Spectrum(
            label=run.label,
            round=run.simulation.round,
            model=model,
            data=data,
            samples=len(own),
            values=tuple(found.values[k].tolist()),
            bounds=tuple(found.bounds[k].tolist()),
            converged=bool(found.converged[k]),
            trace=None if trace is None else (float(trace.values[k]), float(trace.errors[k])),
            density=None if density is None else _curve(density, k),
        )


def _curve(density: Density, k: int) -> Floats:
    return torch.stack([density.grid[k], density.values[k]]).numpy()
