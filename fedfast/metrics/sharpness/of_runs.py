"""How sharp the models of a finished run are: the global one, and clients' after local training.

The global model on training samples of all clients ("train"); each client's model on its own
("own") and on those of all: flat on the one need not be flat on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ...data import Samples
from ...runs.few_samples import few
from ...runs.run_models import RunModels
from ...validation.values import Count
from ..agreement.of_runs import next_clients
from .distances import flatness_distance, layer_sensitivity
from .mean_losses import MeanLosses
from .rises import adaptive_sharpness, layer_sharpness, sam_sharpness, surrogate_gap
from .sharpness_rows import (
    FAR,
    GLOBAL,
    LAYER,
    MEASURES,
    MOVED,
    OWN,
    TRAIN,
    Ascent,
    Key,
    Sharpness,
)

SEED = 0  # of samples where there are too many


def measure(
    run: RunModels,
    clients: Sequence[int] | None = None,
    *,
    rho: float = 0.05,
    asam_rho: float = 0.5,
    steps: int = 1,
    samples: int = 1000,
    tell: Callable[[str], None] = lambda _: None,
) -> Sharpness:
    """Of the global model and of these clients' (by default those of the run's next round, none
    where there are no local models: `RunModels.no_local_models`).

    rho, asam_rho, steps  see `Ascent`
    samples  at most, of all clients together and of each
    tell     is called with what is done next, a line of text
    Raises ValueError for clients that do not exist or take no step, and for other values unfit.
    """
    Count()("samples", samples)
    ascent = Ascent(rho, asam_rho, steps)
    ids = sorted(_default(run) if clients is None else clients)
    rows, names = run.local_rows(ids), [str(i) for i in ids]  # first: tells who does not exist
    center, shared = run.global_row().cpu(), few(run.data.samples, samples, SEED)
    tell(f"{run.label}: global model")
    values = _sharp(run, [GLOBAL], center[None], [shared], TRAIN, ascent)
    if ids:
        own = [few(run.data.client(i), samples, SEED) for i in ids]
        tell(f"{run.label}: {len(ids)} clients on their own samples")
        values |= _sharp(run, names, rows, own, OWN, ascent)
        tell(f"{run.label}: {len(ids)} clients on the training data")
        values |= _sharp(run, names, rows, [shared] * len(ids), TRAIN, ascent)
        values |= _apart(run, names, rows, center)
    return Sharpness(run.label, run.simulation.round, ascent, values)


def _default(run: RunModels) -> list[int]:
    return [] if run.no_local_models else next_clients(run)


def _sharp(
    run: RunModels,
    names: Sequence[str],
    rows: Tensor,
    samples: list[Samples],
    data: str,
    ascent: Ascent,
) -> dict[Key, float]:
    loss = run.simulation._components.design.loss
    losses = MeanLosses(run.module, samples, rows=rows, layout=run.layout, loss=loss)
    gap = surrogate_gap(losses, ascent.rho)
    sharp = gap if ascent.steps == 1 else sam_sharpness(losses, ascent.rho, ascent.steps)
    found = losses.values(losses.rows), sharp, gap, adaptive_sharpness(losses, ascent.asam_rho)
    named = zip(MEASURES, found, strict=True)
    values = {(n, data, what, ""): v for what, of in named for n, v in _named(names, of)}
    return values | _layers(run, names, data, LAYER, layer_sharpness(losses, ascent.rho))


def _apart(run: RunModels, names: Sequence[str], rows: Tensor, center: Tensor) -> dict[Key, float]:
    far = flatness_distance(rows, center, run.layout)
    moved = _layers(run, names, "", MOVED, layer_sensitivity(rows, center, run.layout))
    return {(name, "", FAR, ""): value for name, value in _named(names, far)} | moved


def _layers(
    run: RunModels, names: Sequence[str], data: str, what: str, found: Tensor
) -> dict[Key, float]:
    tensors = [slot.name for slot in run.layout.slots if slot.trained]
    return {
        (name, data, what, tensor): value
        for name, row in zip(names, found, strict=True)
        for tensor, value in _named(tensors, row)
    }


def _named(names: Sequence[str], values: Tensor) -> list[tuple[str, float]]:
    return list(zip(names, values.tolist(), strict=True))
