"""`Sharpness`: what `sharpness.csv` holds of one label."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from ...validation.values import Count
from ..hessian.solvers import positive

NAME = "sharpness.csv"
GLOBAL, OWN, TRAIN = "global", "own", "train"  # the names of `hessian.csv`
MEASURES = ("loss", "sharpness", "surrogate_gap", "adaptive_sharpness")
LAYER, MOVED, FAR = "layer_sharpness", "layer_sensitivity", "flatness_distance"
Key = tuple[str, str, str, str]  # model, data, what, tensor


@dataclass(frozen=True)
class Ascent:
    """How far models are perturbed.

    rho       radius of SAM's perturbations, and of those of single tensors
    asam_rho  of ASAM's, in the scale of each weight: ten times as large in its paper as SAM's
    steps     of the ascent that finds SAM's
    """

    rho: float = 0.05
    asam_rho: float = 0.5
    steps: int = 1

    def __post_init__(self) -> None:
        positive("rho", self.rho)
        positive("asam_rho", self.asam_rho)
        Count()("steps", self.steps)


@dataclass(frozen=True)
class Sharpness:
    """Of one label after `round`. model: "global" or a client's number.

    values  (model, data, what, tensor) -> figure; data and tensor may be ""
    """

    label: str
    round: int
    ascent: Ascent
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
        shared = {"label": self.label, "round": self.round, **asdict(self.ascent)}
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
    rho = float(first["rho"])
    # Before there was a column of its own, both had the same radius.
    ascent = Ascent(rho, float(first.get("asam_rho") or rho), int(first["steps"]))
    return Sharpness(label, int(first["round"]), ascent, values)
