"""`Spectrum`: what `hessian.csv` holds of one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NAME = "hessian.csv"
GLOBAL, TRAIN, OWN = "global", "train", "own"  # of models and data
BATCH = "batch_statistics"  # a column that came later
HEAD = ("label", "round", "model", "data", "samples")


@dataclass(frozen=True)
class Spectrum:
    """Of one model on one set of samples, under one label, after `round`.

    model    "global" or a client's number; data: "train" or "own"; samples: how many
    values   eigenvalues, descending; bounds: some eigenvalue is within this distance of each
    trace    with its standard error; density `[2, G]`: grid and values
    batch_statistics  of how many samples norms took the statistics; None: running ones
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
    batch_statistics: int | None = None

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
        head = {name: getattr(self, name) for name in HEAD} | {BATCH: self.batch_statistics or ""}
        empty = {"at": "", "error": "", "converged": ""}
        return [{**head, "what": "", **empty, **row} for row in made]


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
        batch_statistics=int(batch) if (batch := rows[0].get(BATCH)) else None,
    )
