"""How far clients of a finished run agree: their models after the local steps of its next round.

u_k = v_k - sent, G_l = [<u_j, u_k>] over tensor l, G = sum_l G_l: all else is arithmetic on G_l

cosines           G_jk / (|u_j| |u_k|); of client k and the mean update: (G p)_k / (|u_k| |D|)
conflicts         share of pairs with a negative inner product: of whole models (tensor ""),
                  and of each tensor; and what FedGH leaves of them, which harmonizes whole
                  models or every tensor by itself, whether the run's own rule does or not
drift             as the columns `drift_global` and `drift_mean`, by the weights p_k

A client that diverges counts as one that does not move, as in these columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ... import kernels
from ...algorithms.fedgh import Harmonized, conflicting
from ...algorithms.hooks import Cohort
from ...engine import Work
from ...rounds import drawn_round
from ...runs.models_of import RunModels

Floats = NDArray[np.float64]
NAME = "agreement.csv"
MEAN = "mean"  # in the place of the other client's number
KINDS = ("conflicts", "conflicts_after_model", "conflicts_after_tensor")
MOST = 100  # clients by default: a matrix of more cannot be read


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


def measure(run: RunModels, clients: Sequence[int] | None = None) -> Agreement:
    """The agreement of these clients, by default of the run's next cohort (of at most 100).

    Raises ValueError for fewer than two clients, for those that do not exist or take no step, and
    where an algorithm of two exchanges is asked for more clients than a cohort has.
    """
    engine = run.simulation._components.engine
    ids = sorted(next_clients(run) if clients is None else clients)
    if len(ids) < 2:
        raise ValueError(f"{run.label}: clients: expected at least two; got {ids}")
    most = run.simulation.schedule.largest_cohort
    if engine.algorithm.server.rehearses and len(ids) > most:
        raise ValueError(
            f"clients: expected at most {most}: what is sent follows from a first exchange with "
            f"the cohort; got {len(ids)}"
        )
    rows, cohort = run.local_rows(ids), _cohort(run, ids)
    sent = engine.state.row if engine.sent is None else engine.sent
    trained, segments = run.layout.trained, engine.visible.segments
    rows, sent = rows[:, :trained].to(sent.device), sent[:trained]
    rows = torch.where(rows.isnan().all(1, keepdim=True), sent, rows)  # who diverges, stays
    gram = kernels.gram(rows, sent, segments=segments, backend=engine.backend).cpu().numpy()
    weights = cohort.weights.cpu().numpy()
    whole, share = gram.sum(axis=0), weights / weights.sum()
    squares, step = np.diag(whole), float(share @ whole @ share)
    norms = np.sqrt(squares)
    far = float(share @ squares)
    return Agreement(
        label=run.label,
        round=run.simulation.round,
        ids=tuple(ids),
        cosines=_ratio(whole, np.outer(norms, norms)),
        along=_ratio(whole @ share, norms * math.sqrt(step)),
        norms=norms,
        conflicts=_conflicts(gram, engine.visible.names, engine.algorithm.server, cohort),
        drift_global=far,
        drift_mean=max(0.0, far - step),
    )


def next_clients(run: RunModels) -> list[int]:
    """Clients of the run's next round, every so many of them where these are too many."""
    ids = np.sort(run.simulation.schedule.round(run.simulation.round).clients)
    count = min(MOST, len(ids))
    return [int(ids[i * len(ids) // count]) for i in range(count)]


def _cohort(run: RunModels, ids: Sequence[int]) -> Cohort:
    """The clients as a cohort of the next round: their ids and weights."""
    parts, t = run.simulation._components, run.simulation.round
    drawing, who = parts.design.schedule.drawing, np.asarray(ids, dtype=np.int64)
    if drawing is None:
        raise ValueError("clients: expected a run whose rounds are drawn, not written down")
    plan = drawn_round(drawing.seed, t, who, drawing.sizes[who], drawing.cut)
    epochs = parts.engine.options.local_epochs
    work = Work(t, plan, parts.design.lr(t), epochs, run.data.num_clients)
    return parts.engine._cohort(work, np.arange(len(who)))


def _conflicts(
    gram: Floats, names: Sequence[str], rule: object, cohort: Cohort
) -> dict[str, dict[str, float]]:
    """See `Agreement.conflicts`; gram [L, M, M]."""
    own = rule if isinstance(rule, Harmonized) else Harmonized()
    whole, _ = replace(own, granularity="model").harmonize(gram.sum(0, keepdims=True), cohort)
    each, _ = replace(own, granularity="tensor").harmonize(gram, cohort)
    grams = [gram, *(mixing @ gram @ mixing.swapaxes(-1, -2) for mixing in (whole, each))]
    return {k: _by_tensor(of, names) for k, of in zip(KINDS, grams, strict=True)}


def _by_tensor(gram: Floats, names: Sequence[str]) -> dict[str, float]:
    """Share of conflicting pairs of whole models, under "", and of each tensor."""
    above = np.triu_indices(gram.shape[-1], 1)
    tables = np.concatenate([gram.sum(0, keepdims=True), gram])
    shares = conflicting(tables)[:, above[0], above[1]].mean(axis=1)
    return dict(zip(("", *names), shares.tolist(), strict=True))


def _ratio(above: Floats, below: Floats) -> Floats:
    """nan where a norm is 0."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
