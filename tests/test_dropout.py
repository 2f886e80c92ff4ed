"""`dropout` against masks made by numpy, its shares, and what it depends on."""

from __future__ import annotations

import pytest
import torch
from dropout_reference import mask
from fedfast.kernels import dropout
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import DTYPES, block, poison, same

BACKENDS = ["reference", "native", "triton"]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
SEEDS = torch.tensor([0, 5, 2**62 + 12345, 2**63 - 1])


@settings(max_examples=60, deadline=None)
@given(
    backend=st.sampled_from(BACKENDS),
    dtype=st.sampled_from(DTYPES),
    clients=st.integers(1, 4),
    inner=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    p=st.sampled_from([0.0, 0.125, 0.5, 0.9]),
    layer=st.sampled_from([0, 1, 2**32 - 1]),
    kind=st.sampled_from(["bank", "strided", "shared"]),
)
def test_the_mask_is_numpys(backend, dtype, clients, inner, p, layer, kind) -> None:
    x, out = block(1, clients, *inner, dtype=dtype, kind=kind), poison(clients, *inner, dtype=dtype)
    seeds = SEEDS[:clients]
    dropout(x, p, seeds, layer, out=out, backend=backend)
    size = x[0].numel()
    kept = torch.stack([mask(int(s), layer, size, p) for s in seeds]).view(x.shape)
    same(out, torch.where(kept, x * (1 / (1 - p)), 0.0))


@every_backend
@pytest.mark.parametrize("size", [1023, 4097])
def test_many_blocks_of_words(size: int, backend: str) -> None:
    out = dropout(torch.ones(2, size), 0.25, SEEDS[:2], 3, backend=backend)
    same(out != 0, torch.stack([mask(int(s), 3, size, 0.25) for s in SEEDS[:2]]))


@every_backend
def test_planes_are_dropped_together(backend: str) -> None:
    x = block(1, 2, 5, 7, 3, 4)
    out = dropout(x, 0.5, SEEDS[:2], 1, span=12, backend=backend)
    kept = torch.stack([mask(int(s), 1, 35, 0.5) for s in SEEDS[:2]]).view(2, 5, 7, 1, 1)
    same(out, torch.where(kept, 2 * x, 0.0))


def test_shares_and_scale() -> None:
    for p in (0.1, 0.5, 0.8):
        out = dropout(torch.ones(4, 250_000), p, SEEDS)
        dropped, n = (out == 0).double().mean(1), out.shape[1]
        assert ((dropped - p).abs() < 5 * (p * (1 - p) / n) ** 0.5).all()
        same(out.unique(), torch.tensor([0.0, 1 / (1 - p)]))
        agree = ((out[0] == 0) & (out[1] == 0)).double().mean()  # clients draw independently
        assert abs(agree - p * p) < 5 * (p * p * (1 - p * p) / n) ** 0.5


@every_backend
def test_all_and_nothing(backend: str) -> None:
    x = block(1, 2, 33)
    same(dropout(x, 0.0, SEEDS[:2], backend=backend), x)
    same(dropout(x, 1.0, SEEDS[:2], backend=backend), torch.zeros_like(x))


@pytest.mark.parametrize("span", [1, 301])
def test_triton_makes_the_native_masks(span: int) -> None:
    """Bit for bit; several tiles of draws or of neighbours."""
    x = block(1, 3, 7, 301, kind="strided")
    found = [dropout(x, 0.3, SEEDS[1:], 2, span=span, backend=b) for b in ("triton", "native")]
    same(*found)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"p": 1.5}, ValueError, r"p: expected a share in \[0, 1\]; got 1.5"),
        ({"seeds": torch.zeros(3, dtype=torch.int64)}, ValueError, r"seeds: expected shape \[2\]"),
        ({"seeds": torch.zeros(2)}, TypeError, "seeds: expected dtype torch.int64"),
        ({"layer": -1}, ValueError, "layer: expected an int >= 0; got -1"),
        ({"span": 4}, ValueError, "span: expected a divisor of 6; got 4"),
        ({"x": torch.zeros(2, 6).long()}, TypeError, "x: expected a floating dtype"),
    ],
)
def test_errors_name_the_argument(changes, error, message) -> None:
    with pytest.raises(error, match=message):
        dropout(**{"x": torch.zeros(2, 6), "p": 0.5, "seeds": SEEDS[:2], **changes})
