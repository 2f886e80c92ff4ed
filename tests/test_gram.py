"""`gram` against float64 products, its error bound on chosen data, and what pairs may depend on."""

from __future__ import annotations

import pytest
import torch
from fedfast.kernels import Segments, gram
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import poison, same
from torch import Tensor

every_backend = pytest.mark.parametrize("backend", ["native", "triton"])


def expected(d: Tensor) -> Tensor:
    """d d^T in float64."""
    return torch.einsum("is,js->ij", d.double(), d.double())


def within(found: Tensor, d: Tensor, tolerance: float) -> None:
    """Every error is at most `tolerance` times the product of the two norms."""
    lengths = d.double().norm(dim=1)
    error = (found - expected(d)).abs()
    assert (error <= tolerance * lengths[:, None] * lengths + 1e-300).all()


@every_backend
@pytest.mark.parametrize("clients", [1, 2, 5, 33, 70])
def test_products_of_updates(clients: int, backend: str) -> None:
    size = 1000 if backend == "triton" else 3001
    rows, base = torch.randn(clients, size), torch.randn(size)
    out = poison(clients, clients, dtype=torch.float64)
    assert gram(rows, base, out=out, backend=backend).data_ptr() == out.data_ptr()
    within(out, rows - base, 1e-6)
    same(out, out.T)


@every_backend
def test_segments_are_apart(backend: str) -> None:
    """Padding is left out; an empty segment has the product 0."""
    rows, base = torch.randn(2, 6, 300, dtype=torch.float64)
    rows[:, 40:50] = torch.nan
    table = Segments.of([0, 50, 180, 200], [40, 130, 0, 100])
    out = poison(4, 6, 6, dtype=torch.float64)
    found = gram(rows, base, segments=table, out=out, backend=backend)
    for layer, (start, stop) in enumerate(table.spans):
        within(found[layer], (rows - base)[:, start:stop], 1e-14)
    whole = torch.cat([(rows - base)[:, a:b] for a, b in table.spans], dim=1)
    torch.testing.assert_close(found.sum(0), expected(whole), rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    value=st.floats(0.5, 2.0, width=32),
    first=st.sampled_from([1.0, 4096.0, 1e-4]),
    size=st.sampled_from([14 * 16, 14 * 16 * 9, 5000]),
)
def test_the_error_bound_does_not_need_luck(value: float, first: float, size: int) -> None:
    """Equal products, whose roundings all have one sign, and a first that dwarfs or fits them."""
    rows = torch.full((3, size), value)
    rows[:, :16] *= first
    rows[1] *= 1.0 / 3
    within(gram(rows), rows, 1e-6)


@every_backend
def test_a_pair_does_not_depend_on_the_others(backend: str) -> None:
    size = 700 if backend == "triton" else 30001
    rows, base = torch.randn(41, size), torch.randn(size)
    company = gram(rows, base, backend=backend)
    for pair in ([0, 40], [7, 8], [33, 2]):
        alone = gram(rows[pair], base, backend=backend)
        same(alone, company[pair][:, pair])


def test_tiles_of_every_size_give_a_pair_the_same_bits() -> None:
    """Triton takes 2 clients in one tile, 12 in a larger one, 41 in several of another size."""
    rows, base = torch.randn(41, 1100), torch.randn(1100)
    # Padding before, between and behind segments; spans of columns that are not full.
    table = Segments.of([70, 450, 460], [333, 7, 600])
    rows[:, 65:70] = torch.nan
    rows[:, 403:450] = torch.nan
    many = gram(rows, base, segments=table, backend="triton")
    some = gram(rows[:12], base, segments=table, backend="triton")
    two = gram(rows[[3, 11]], base, segments=table, backend="triton")
    same(some, many[:, :12, :12])
    same(two, many[:, [3, 11]][:, :, [3, 11]])
    for layer, (start, stop) in enumerate(table.spans):
        within(many[layer], (rows - base)[:, start:stop], 1e-6)


@every_backend
def test_a_broken_client_breaks_its_pairs_alone(backend: str) -> None:
    rows = torch.randn(4, 50)
    whole = gram(rows, backend=backend)
    rows[2, 30] = torch.nan
    found = gram(rows, backend=backend)
    assert found[2].isnan().all() and found[:, 2].isnan().all()
    others = [0, 1, 3]
    same(found[others][:, others], whole[others][:, others])


def test_projections_from_coefficients() -> None:
    """What harmonization does with the products is what it would do with the vectors."""
    g = torch.randn(2, 400, dtype=torch.float64)
    g[1] -= g[0]
    products = gram(g)
    assert products[0, 1] < 0
    a = torch.eye(2, dtype=torch.float64)
    a[0, 1], a[1, 0] = -products[0, 1] / products[1, 1], -products[0, 1] / products[0, 0]
    vectors = torch.stack([g[i] - (g[0] @ g[1]) / (g[1 - i] @ g[1 - i]) * g[1 - i] for i in (0, 1)])
    torch.testing.assert_close(a @ g, vectors, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a @ products @ a.T, expected(vectors), rtol=1e-12, atol=1e-12)


def test_errors_name_the_argument() -> None:
    rows = torch.randn(3, 20)
    with pytest.raises(ValueError, match=r"rows: expected shape \[K, S\] or \[S\]"):
        gram(torch.randn(2, 3, 4))
    with pytest.raises(
        ValueError, match=r"base: expected shape \[3, 20\] or \[20\]; got \[3, 21\]"
    ):
        gram(rows, torch.randn(21))
    with pytest.raises(TypeError, match="base: expected dtype torch.float32; got torch.float64"):
        gram(rows, torch.randn(20).double())
    with pytest.raises(ValueError, match="segments: expected end <= S = 20; got 30"):
        gram(rows, segments=Segments.of([0], [30]))
    with pytest.raises(ValueError, match=r"out: expected contiguous float64 \[3, 3\]"):
        gram(rows, out=torch.empty(3, 3))
