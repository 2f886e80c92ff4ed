"""How sharp the models of a finished run are: the global one, and clients' after local training.

The global model on training samples of all clients ("train"); each client's model on its own
("own") and on those of all: flat on the one need not be flat on the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ...data import Samples
from ...runs.few_samples import few
from ...runs.models_of import RunModels
from ...validation.values import Count
from ..agreement.of_runs import next_clients
from .distances import flatness_distance, layer_sensitivity
from .mean_losses import MeanLosses
from .rises import adaptive_sharpness, layer_sharpness, sam_sharpness, surrogate_gap

NAME = "sharpness.csv"
SEED = 0  # of samples where there are too many
GLOBAL, OWN, TRAIN = "global", "own", "train"  # the names of `hessian.csv`
MEASURES = ("loss", "sharpness", "surrogate_gap", "adaptive_sharpness")
LAYER, MOVED, FAR = "layer_sharpness", "layer_sensitivity", "flatness_distance"
Key = tuple[str, str, str, str]  # model, data, what, tensor


@dataclass(frozen=True)
class Sharpness:
    """Of one label after `round`. model: "global" or a client's number.

    values  (model, data, what, tensor) -> figure; data and tensor may be ""
    """

    label: str
    round: int
    rho: float
    steps: int
    values: Mapping[Key, float]

    @property
    def clients(self) -> list[str]:
        """Whose local models were measured."""
        return [model for model, _, what, _ in self.values if what == FAR]

    def mean(self, models: Sequence[str], data: str, what: str, tensor: str = "") -> float:
        """Over models; nan over none."""
        found = [self.values[model, data, what, tensor] for model in models]
        return math.fsum(found) / len(found) if found else math.nan

    def tensors(self) -> list[str]:
        """Names of the trained tensors."""
        return [t for model, _, what, t in self.values if model == GLOBAL and what == LAYER]

    def rows(self) -> list[dict[str, object]]:
        """Lines of `sharpness.csv`."""
        shared = {"label": self.label, "round": self.round, "rho": self.rho, "steps": self.steps}
        names = ("model", "data", "what", "tensor")
        return [
            {**shared, **dict(zip(names, key, strict=True)), "value": value}
            for key, value in self.values.items()
        ]


def of_rows(rows: Iterable[Mapping[str, str]]) -> list[Sharpness]:
    """Those of the lines of `sharpness.csv`, label by label. ValueError for other lines."""
    by_label: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_label.setdefault(row["label"], []).append(row)
    try:
        return [_of_label(label, found) for label, found in by_label.items()]
    except KeyError as error:
        raise ValueError(f"{NAME}: expected what `fedfast sharpness` writes; {error}") from error


def _of_label(label: str, rows: Sequence[Mapping[str, str]]) -> Sharpness:
    first = rows[0]
    values = {(r["model"], r["data"], r["what"], r["tensor"]): float(r["value"]) for r in rows}
    return Sharpness(label, int(first["round"]), float(first["rho"]), int(first["steps"]), values)


def measure(
    run: RunModels,
    clients: Sequence[int] | None = None,
    *,
    rho: float = 0.05,
    steps: int = 1,
    samples: int = 1000,
    tell: Callable[[str], None] = lambda _: None,
) -> Sharpness:
    """Of the global model and of these clients' (by default those of the run's next round).

    samples  at most, of all clients together and of each
    tell     is called with what is done next, a line of text
    Raises ValueError for clients that do not exist or take no step, and for other values unfit.
    """
    Count()("samples", samples)
    ids = sorted(next_clients(run) if clients is None else clients)
    rows, names = run.local_rows(ids), [str(i) for i in ids]  # first: tells who does not exist
    center, shared = run.global_row().cpu(), few(run.data.samples, samples, SEED)
    tell(f"{run.label}: global model")
    values = _sharp(run, [GLOBAL], center[None], [shared], TRAIN, rho, steps)
    if ids:
        own = [few(run.data.client(i), samples, SEED) for i in ids]
        tell(f"{run.label}: {len(ids)} clients on their own samples")
        values |= _sharp(run, names, rows, own, OWN, rho, steps)
        tell(f"{run.label}: {len(ids)} clients on the training data")
        values |= _sharp(run, names, rows, [shared] * len(ids), TRAIN, rho, steps)
        values |= _apart(run, names, rows, center)
    return Sharpness(run.label, run.simulation.round, rho, steps, values)


def _sharp(
    run: RunModels,
    names: Sequence[str],
    rows: Tensor,
    samples: list[Samples],
    data: str,
    rho: float,
    steps: int,
) -> dict[Key, float]:
    loss = run.simulation._components.design.loss
    losses = MeanLosses(run.module, samples, rows=rows, layout=run.layout, loss=loss)
    gap = surrogate_gap(losses, rho)
    sharp = gap if steps == 1 else sam_sharpness(losses, rho, steps)
    found = losses.values(losses.rows), sharp, gap, adaptive_sharpness(losses, rho)
    named = zip(MEASURES, found, strict=True)
    values = {(n, data, what, ""): v for what, of in named for n, v in _named(names, of)}
    return values | _layers(run, names, data, LAYER, layer_sharpness(losses, rho))


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
