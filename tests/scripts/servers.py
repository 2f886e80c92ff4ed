"""Server steps: (updates D_k, shares p_k, round) -> what the model moves by. They may remember."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from .run import SPANS, Run, total

Rule = Callable[[list[Tensor], list[float], int], Tensor]


def average(run: Run) -> Rule:
    return lambda updates, ps, t: run.server_lr * total(ps, updates)


def momentum(run: Run, beta: float) -> Rule:
    m = torch.zeros_like(run.w0)

    def rule(updates, ps, t):
        m.mul_(beta).add_(total(ps, updates))
        return run.server_lr * m

    return rule


def adaptive(run: Run, kind: str, beta1: float, beta2: float, tau: float) -> Rule:
    """kind: "adam", "yogi" or "adagrad" (FedOpt's algorithm 2)"""
    m, v = torch.zeros_like(run.w0), torch.full_like(run.w0, tau**2)

    def rule(updates, ps, t):
        mean = total(ps, updates)
        m.copy_(beta1 * m + (1 - beta1) * mean)
        if kind == "adagrad":
            v.add_(mean**2)
        elif kind == "adam":
            v.copy_(beta2 * v + (1 - beta2) * mean**2)
        else:
            v.sub_((1 - beta2) * mean**2 * torch.sign(v - mean**2))
        return run.server_lr * m / (v.sqrt() + tau)

    return rule


def harmonized(run: Run, granularity="model", reference="pair", order="ascending") -> Rule:
    """The naive pairwise loop over vectors. order: a word, or (t, pairs) -> pairs"""
    parts = list(SPANS.values()) if granularity == "tensor" else [slice(None)]

    def rule(updates, ps, t):
        ids = run.cohorts[t]
        ranked = sorted(range(len(ids)), key=ids.__getitem__)  # i < j are client ids
        pairs = list(itertools.combinations(ranked, 2))
        pairs = pairs[::-1] if order == "descending" else pairs
        pairs = order(t, pairs) if callable(order) else pairs
        G = [d.clone() for d in updates]
        for part in parts:
            _settle([d[part] for d in G], pairs, reference)
        return run.server_lr * total(ps, G)

    return rule


def _settle(G: list[Tensor], pairs: list[tuple[int, int]], reference: str) -> None:
    original = [g.clone() for g in G]
    found: dict[int, list[Tensor]] = {i: [] for i in range(len(G))}
    for i, j in pairs:
        if reference == "original" and original[i] @ original[j] < 0:
            found[i].append(_on(original[i], original[j]))
            found[j].append(_on(original[j], original[i]))
        elif reference != "original" and G[i] @ G[j] < 0:
            before = G[i].clone()
            G[i] -= _on(before, G[j])
            G[j] -= _on(G[j], before if reference == "pair" else G[i])
    for i, several in found.items():
        if several:
            G[i] -= sum(several) / len(several)


def _on(a: Tensor, b: Tensor) -> Tensor:
    """a's projection on b."""
    return (a @ b) / (b @ b) * b
