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
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ... import kernels
from ...algorithms.fedgh import Harmonized
from ...algorithms.hooks import Cohort
from ...kernels.harmonize import conflicting
from ...round_cohort import cohort_of
from ...round_records import Work
from ...rounds import drawn_round
from ...runs.run_models import RunModels
from .agreement_rows import KINDS, Agreement, Floats

MOST = 100  # clients by default: a matrix of more cannot be read


def measure(run: RunModels, clients: Sequence[int] | None = None) -> Agreement:
    """The agreement of these clients, by default of the run's next cohort (of at most 100).

    Raises ValueError for fewer than two clients, for those that do not exist or take no step, and
    where an algorithm of two exchanges is asked for more clients than a cohort has, or where
    there are no local models (`RunModels.no_local_models`).
    """
    if why := run.no_local_models:
        raise ValueError(f"clients: {why}")
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
    return cohort_of(parts.engine, work, np.arange(len(who)))


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
    found = conflicting(torch.from_numpy(tables)).numpy()
    shares = found[:, above[0], above[1]].mean(axis=1)
    return dict(zip(("", *names), shares.tolist(), strict=True))


def _ratio(above: Floats, below: Floats) -> Floats:
    """nan where a norm is 0."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
