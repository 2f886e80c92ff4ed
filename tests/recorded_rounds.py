"""Rounds as they were: what every client sent, recorded beside a run; figures of them in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from federation import federation, mlp
from numpy.typing import NDArray

import fedfast
from fedfast.aggregation import Mean

Floats = NDArray[np.float64]
ALL = ("cosine", "conflicts", "delta_eps", "norm", "drift", "momentum")
SIZES = [9, 13, 4, 7, 11, 6]


@dataclass
class Round:
    """updates [C, P] and weights [C] in the order in which clients were added up, their ids;
    spans: where tensors lie; w: the new model."""

    updates: Floats
    weights: Floats
    ids: list[int]
    spans: list[tuple[int, int]]
    w: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def mean(self) -> Floats:
        return self.weights @ self.updates


@contextmanager
def recording() -> Iterator[list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
    """(models, weights, sent) of every chunk that is added up."""
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    plain = Mean.add

    def add(self: Mean, models: torch.Tensor, weights: Any, sent: torch.Tensor, *rest: Any) -> Any:
        seen.append((models.double().clone(), weights.clone(), sent.double().clone()))
        return plain(self, models, weights, sent, *rest)

    with patch.object(Mean, "add", add):
        yield seen


def simulation(algorithm: Any, module: Any = None, **more: Any) -> fedfast.Simulation:
    """Four rounds of five of six clients of unlike sizes."""
    given: dict[str, Any] = dict(rounds=4, participation=0.8, batch_size=4, lr=0.1, local_epochs=2)
    given |= dict(threads=1, metrics=ALL) | more
    if algorithm == "fedsgd":
        given |= dict(batch_size=None, local_epochs=1)
    return fedfast.Simulation(module or mlp(), federation(SIZES), algorithm, **given)


def recorded(algorithm: Any, **more: Any) -> tuple[list[Round], fedfast.History]:
    """What clients sent in each round (of two exchanges the second), and the run's history."""
    sim, rounds = simulation(algorithm, **more), []
    layout = sim._engine.visible
    with recording() as seen:
        for t, _ in enumerate(sim):
            models, weights, sent = seen[-1]
            plan = sim.schedule.round(t)
            ids = plan.clients[np.argsort(-plan.steps, kind="stable")].tolist()
            part = slice(layout.trained)
            made = Round(
                (models - sent)[:, part].numpy(), weights.numpy(), ids, list(layout.segments.spans)
            )
            made.w = sim._engine.state.w.double().numpy().copy()
            rounds.append(made)
    return rounds, sim.history


def cosine(a: Floats, b: Floats) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def pairs(updates: Floats) -> Floats:
    """Inner products of all pairs i < j."""
    return (updates @ updates.T)[np.triu_indices(len(updates), 1)]


def conflict_shares(updates: Floats, spans: list[tuple[int, int]]) -> tuple[float, float]:
    """(of whole models, mean over tensors)."""
    each = [conflict_share(updates[:, a:b]) for a, b in spans]
    return conflict_share(updates), float(np.mean(each))


def conflict_share(updates: Floats) -> float:
    """Of all pairs; what is orthogonal up to rounding does not conflict."""
    length = np.linalg.norm(updates, axis=1)
    known = np.outer(length, length)[np.triu_indices(len(updates), 1)]
    return float(np.mean(pairs(updates) < -1e-6 * known))


def harmonized(found: Round, granularity: str) -> Floats:
    """FedGH on vectors, pair after pair by ascending ids, both from their values before it."""
    made, order = found.updates.copy(), np.argsort(found.ids)
    spans = found.spans if granularity == "tensor" else [(0, made.shape[1])]
    for a, b in spans:
        for first, i in enumerate(order):
            for j in order[first + 1 :]:
                one, other = made[i, a:b].copy(), made[j, a:b].copy()
                inner = one @ other
                if inner < 0:
                    made[i, a:b] -= inner / (other @ other) * other
                    made[j, a:b] -= inner / (one @ one) * one
    return made
