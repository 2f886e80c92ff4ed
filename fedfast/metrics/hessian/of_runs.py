"""How sharp the models of a finished run are: the global one, and clients' after local training.

lambda_1      largest eigenvalue of H(w), the Hessian of the mean loss, at the global model, of the
              training data
lambda_1_l    at a client's local model, of its own samples
lambda_1_g    at the same local model, of the training data

(Caldarola, Cagnasso, Caputo, Ciccone 2025, "Beyond local sharpness", FedGloSS, Table 1.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...data import Samples
from ...runs.few_samples import few
from ...runs.run_models import RunModels
from ...validation.values import Count
from .batch_statistics import check
from .density import Density
from .solvers import Hessian
from .spectrum import GLOBAL, OWN, TRAIN, Floats, Spectrum

Tell = Callable[[str], None]
MEMORY = 1 << 30  # bytes, about, of the Lanczos vectors of models that go together


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    clients  whose local models are measured besides the global one
    top      eigenvalues of each model; trace, density: whether of the global model
    samples  at most, drawn without replacement; steps: of Lanczos runs, at most
    batch_statistics  see `Hessian`
    """

    clients: tuple[int, ...] = ()
    top: int = 1
    trace: bool = False
    density: bool = False
    samples: int = 1000
    steps: int = 100
    seed: int = 0
    batch_statistics: int | None = None

    def __post_init__(self) -> None:
        for name in ("top", "samples", "steps"):
            Count()(name, getattr(self, name))
        Count(ge=0)("seed", self.seed)
        if self.top > self.steps:
            raise ValueError(f"top: expected at most {self.steps}, the steps; got {self.top}")
        if self.batch_statistics is not None:
            Count(ge=2)("batch_statistics", self.batch_statistics)


class Stage:
    """Tells how many products with Hessians a quantity of some models has taken so far."""

    def __init__(self, tell: Tell, models: str) -> None:
        self._tell, self._models = tell, models
        self._what, self._done = "", 0

    def begin(self, what: str) -> None:
        """Products from now on are those of `what`."""
        self._what, self._done = what, 0

    def product(self) -> None:
        """One more has been made."""
        self._done += 1
        self._tell(f"{self._models}: {self._what}, product {self._done} with the Hessian")


def measure(run: RunModels, wanted: Wanted, tell: Tell = lambda _: None) -> list[Spectrum]:
    """The global model's spectrum, then each client's on its own samples and on the training data.

    tell  is called with what is being done, a line of text, at every product with a Hessian
    A model's figures do not depend, by a bit, on which clients are asked for. Raises ValueError
    for clients that do not exist or take no step.
    """
    local = run.local_rows(wanted.clients)  # first: clients that do not exist are told at once
    train, center = _few(run, run.data.samples, wanted), run.global_row().cpu()
    models = []
    for i, row in zip(wanted.clients, local, strict=True):
        own = _few(run, run.data.client(i), wanted)
        models += [(str(i), OWN, row, own), (str(i), TRAIN, row, train)]
    if wanted.batch_statistics is not None:
        check(run.module, [train, *(own for *_, own in models)], wanted.batch_statistics)
    stage = Stage(tell, f"{run.label}, global model")
    found = [*_spectra(run, wanted, [(GLOBAL, TRAIN, center, train)], stage, True)]
    each = max(1, MEMORY // (8 * run.layout.trained * wanted.steps))
    for at in range(0, len(models), each):
        part = models[at : at + each]
        stage = Stage(tell, f"{run.label}, clients' models {at + 1} to {at + len(part)}")
        found += _spectra(run, wanted, part, stage, False)
    return found


def _few(run: RunModels, samples: Samples, wanted: Wanted) -> Samples:
    return few(samples, wanted.samples, wanted.seed).to("cpu", run.layout.dtype)


def _spectra(
    run: RunModels,
    wanted: Wanted,
    models: Sequence[tuple[str, str, Tensor, Samples]],
    stage: Stage,
    whole: bool,
) -> Iterator[Spectrum]:
    """Of models that go together; whole: trace and density too, where they are wanted."""
    rows, samples = torch.stack([row for *_, row, _ in models]), [own for *_, own in models]
    hessian = Hessian(
        run.module,
        samples,
        rows=rows,
        layout=run.layout,
        loss=run.simulation._components.design.loss,
        seed=wanted.seed,
        progress=stage.product,
        batch_statistics=wanted.batch_statistics,
    )
    stage.begin("eigenvalues")
    found = hessian.eigenvalues(wanted.top, steps=wanted.steps)
    stage.begin("trace")
    trace = hessian.trace() if whole and wanted.trace else None
    stage.begin("density")
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
            batch_statistics=wanted.batch_statistics,
        )


def _curve(density: Density, k: int) -> Floats:
    return torch.stack([density.grid[k], density.values[k]]).numpy()
