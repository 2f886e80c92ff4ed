"""`Agreement`: what `agreement.csv` holds of one label."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NAME = "agreement.csv"
MEAN = "mean"  # in the place of the other client's number
KINDS = ("conflicts", "conflicts_after_model", "conflicts_after_tensor")


@dataclass(frozen=True)
class Agreement:
    """Of M clients under one label, in the round after `round`.

    cosines  [M, M]; along [M], with the mean update; norms [M], |u_k|
    conflicts  kind -> {"": of whole models, tensor -> its own}, shares of pairs; see `KINDS`
    """

    label: str
    round: int
    ids: tuple[int, ...]
    cosines: Floats
    along: Floats
    norms: Floats
    conflicts: Mapping[str, Mapping[str, float]]
    drift_global: float
    drift_mean: float

    @property
    def summary(self) -> dict[str, float]:
        """Its figures of all clients, named as the columns of a history."""
        pairs = self.cosines[np.triu_indices(len(self.ids), 1)]
        whole = {kind: of[""] for kind, of in self.conflicts.items()}
        means = {"cosine_global": _mean(self.along), "cosine_pairs": _mean(pairs)}
        return {
            **means,
            **whole,
            "drift_global": self.drift_global,
            "drift_mean": self.drift_mean,
        }

    def rows(self) -> list[dict[str, object]]:
        """Lines of `agreement.csv`: what, client, other, tensor, value."""
        made: list[dict[str, object]] = []
        for i, client in enumerate(self.ids):
            made.append({"what": "norm", "client": client, "value": float(self.norms[i])})
            found = {"what": "cosine", "client": client}
            made.append({**found, "other": MEAN, "value": float(self.along[i])})
            for j in range(i + 1, len(self.ids)):
                made.append({**found, "other": self.ids[j], "value": float(self.cosines[i, j])})
        for kind, of in self.conflicts.items():
            made += [{"what": kind, "tensor": name, "value": share} for name, share in of.items()]
        for name in ("drift_global", "drift_mean"):
            made.append({"what": name, "value": getattr(self, name)})
        empty = {"client": "", "other": "", "tensor": ""}
        return [{"label": self.label, "round": self.round, "what": "", **empty, **r} for r in made]


def of_rows(rows: Iterable[Mapping[str, str]]) -> list[Agreement]:
    """Those of the lines of `agreement.csv`, label by label. Raises ValueError for other lines."""
    by_label: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_label.setdefault(row["label"], []).append(row)
    try:
        return [_of_label(label, found) for label, found in by_label.items()]
    except (KeyError, IndexError) as error:
        raise ValueError(f"{NAME}: expected what `fedfast agreement` writes; {error}") from error


def _of_label(label: str, rows: Sequence[Mapping[str, str]]) -> Agreement:
    value = {(r["what"], r["client"], r["other"], r["tensor"]): float(r["value"]) for r in rows}
    ids = [key[1] for key in value if key[0] == "norm"]
    at = {client: i for i, client in enumerate(ids)}
    cosines, along = np.eye(len(ids)), np.zeros(len(ids))
    for (what, client, other, _), found in value.items():
        if what == "cosine" and other == MEAN:
            along[at[client]] = found
        elif what == "cosine":
            cosines[at[client], at[other]] = cosines[at[other], at[client]] = found
    return Agreement(
        label=label,
        round=int(rows[0]["round"]),
        ids=tuple(map(int, ids)),
        cosines=cosines,
        along=along,
        norms=np.array([value["norm", client, "", ""] for client in ids]),
        conflicts={k: {key[3]: v for key, v in value.items() if key[0] == k} for k in KINDS},
        drift_global=value["drift_global", "", "", ""],
        drift_mean=value["drift_mean", "", "", ""],
    )


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
