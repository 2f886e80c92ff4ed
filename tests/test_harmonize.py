"""`harmonize` against projections of the vectors themselves, pair after pair, in float64."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
from fedfast.kernels.harmonize import averaged_weights, harmonize
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed on this platform")

every_backend = pytest.mark.parametrize("backend", ["reference", "native", "triton"])
Case = tuple[Tensor, Tensor, Tensor]


def updates(layers: int, clients: int, size: int = 40) -> Tensor:
    """[L, C, size], about half of whose pairs conflict."""
    generator = torch.Generator().manual_seed(clients)
    return torch.randn(layers, clients, size, dtype=torch.float64, generator=generator)


def case(layers: int, clients: int) -> Case:
    """(updates, weights, pairs in an order of their own)."""
    generator = np.random.default_rng(clients)
    pairs = generator.permutation(np.array([*combinations(range(clients), 2)]).reshape(-1, 2))
    weights = torch.from_numpy(generator.dirichlet(np.ones(clients)))
    return updates(layers, clients), weights, torch.from_numpy(pairs.astype(np.int32))


def conflict(g: Tensor, d: Tensor, i: int, j: int) -> bool:
    """Beyond what rounding leaves of updates d that have become orthogonal, or nothing."""
    return float(g[i] @ g[j]) < -1e-12 * float(d[i].norm() * d[j].norm())


def count(g: Tensor, d: Tensor) -> int:
    return sum(conflict(g, d, i, j) for i, j in combinations(range(len(d)), 2))


def expected(d: Tensor, weights: Tensor, pairs: Tensor, together: bool) -> tuple[Tensor, list[int]]:
    """(weighted sum of a segment's settled updates, conflicts before and after)."""
    g, before = d.clone(), count(d, d)
    for i, j in pairs.tolist():
        inner = g[i] @ g[j]
        if conflict(g, d, i, j):
            one, other = g[i] - inner / (g[j] @ g[j]) * g[j], g[j] - inner / (g[i] @ g[i]) * g[i]
            g[i] = one
            if together:
                g[j] = other
    return weights @ g, [before, count(g, d)]


@every_backend
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("layers", "clients"), [(1, 1), (1, 2), (3, 5), (2, 12)])
def test_weights_are_those_of_projected_vectors(
    layers: int, clients: int, together: bool, backend: str
) -> None:
    d, weights, pairs = case(layers, clients)
    given = d @ d.mT, weights, pairs, together
    kept = [t.clone() for t in given[:3]]
    found, counts = harmonize(*given, backend=backend)
    assert all(map(torch.equal, given[:3], kept))
    assert found.shape == (layers, clients) and found.dtype == torch.float64
    for layer in range(layers):
        total, numbers = expected(d[layer], weights, pairs, together)
        torch.testing.assert_close(found[layer] @ d[layer], total, rtol=1e-10, atol=1e-10)
        assert counts[layer].tolist() == numbers


def test_more_clients_than_a_tile_has() -> None:
    d, weights, pairs = case(1, 131)
    pairs = pairs[:200]
    total, numbers = expected(d[0], weights, pairs, True)
    found, counts = harmonize(d @ d.mT, weights, pairs, True, backend="triton")
    torch.testing.assert_close(found[0] @ d[0], total, rtol=1e-10, atol=1e-10)
    assert counts[0].tolist() == numbers


def settled(d: list[Fraction], pairs: Tensor) -> list[Fraction]:
    """Numbers, each pair of unlike signs of which becomes 0 and 0."""
    g = list(d)
    for i, j in pairs.tolist():
        if g[i] * g[j] < 0:
            g[i] = g[j] = Fraction(0)
    return g


@every_backend
@pytest.mark.parametrize("clients", [2, 7, 20])
def test_updates_on_one_line_leave_no_rounding_to_project_on(clients: int, backend: str) -> None:
    """As those of a single bias are. Two that met are nothing, not 1e-17 of something."""
    for seed in range(20):
        generator = np.random.default_rng(seed)
        _, weights, pairs = case(1, clients)
        numbers = generator.standard_normal(clients)
        d = torch.from_numpy(numbers)[None, :, None] * torch.tensor([0.3, -0.7, 0.1])
        found, counts = harmonize(d @ d.mT, weights, pairs, True, backend=backend)
        g = settled([Fraction(x) for x in numbers.tolist()], pairs)
        total = sum(Fraction(w) * x for w, x in zip(weights.tolist(), g, strict=True))
        there = float(found[0] @ torch.from_numpy(numbers))
        assert abs(there - float(total)) < 1e-12 and counts[0, 1] == 0


@every_backend
def test_a_client_that_has_diverged_conflicts_with_nobody(backend: str) -> None:
    d, weights, pairs = case(1, 5)
    gram = d @ d.mT
    gram[0, 2], gram[0, :, 2] = torch.nan, torch.nan
    others = pairs[(pairs != 2).all(1)].contiguous()
    found = harmonize(gram, weights, pairs, True, backend=backend)[0]
    total = expected(d[0], weights, others, True)[0]
    torch.testing.assert_close(found[0] @ d[0], total, rtol=1e-10, atol=1e-10)


def test_means_of_projections_do_not_depend_on_an_order() -> None:
    d, weights, _ = case(2, 6)
    found, counts = averaged_weights(d @ d.mT, weights)
    for layer in range(2):
        g = d[layer].clone()
        for i, own in enumerate(d[layer]):
            met = [each for each in d[layer] if own @ each < 0]
            shares = [(own @ each) / (each @ each) * each for each in met]
            g[i] = own - sum(shares) / max(1, len(met))
        torch.testing.assert_close(found[layer] @ d[layer], weights @ g, rtol=1e-12, atol=1e-12)
        assert counts[layer].tolist() == [count(d[layer], d[layer]), count(g, d[layer])]
