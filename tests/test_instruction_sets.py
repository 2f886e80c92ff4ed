"""AVX2 and AVX-512 add up in the same order, to the bit: products of dense layers, of LSTMs, and of
convolutions that are formed through Fourier transforms.

The portable code rounds each product, and other convolutions add along vectors: they may differ.
Where there is one of the two alone, the digests of whole runs are left, which `test_digests.py`
holds to what this processor computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from digests import PARTS, WORKLOADS, kept, parts
from fedfast.kernels import ghost, linear, lowrank
from layer_cases import DTYPES, block, isa, poison, same
from test_conv import FRAMES, SHAPES
from test_conv import run as convolve
from test_linear import forward, gradients
from test_lstm import both, problem
from torch import Tensor

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=("float32", "float64"))
CONVOLUTIONS = tuple(name for name in WORKLOADS if name not in ("W2", "W3"))
# Rows that fill vectors of 4, 8 and 16 numbers or not, few enough for dots, and more than stay
# where they lie; depths below a vector, of several pieces, and between.
BATCHES = [1, 2, 10, 16, 17, 20, 21, 23, 24, 36, 40, 50, 64, 65, 130]
SIDES = [(3, 2), (33, 17), (64, 64), (447, 5), (450, 40), (1100, 21)]


def under_both(results: Callable[[], Mapping[str, Tensor]]) -> None:
    if parts() != list(PARTS):
        pytest.skip(f"the processor has no {PARTS[1]}")
    found = []
    for name in PARTS:
        with isa(name):
            found.append(results())
    for key, value in found[0].items():
        same(value, found[1][key])


@every_dtype
@pytest.mark.parametrize("batch", BATCHES)
def test_dense_layers(batch: int, dtype: torch.dtype) -> None:
    for sides in SIDES:
        given = forward((2, batch, *sides), dtype)
        dout, base = block(4, 2, batch, sides[1], dtype=dtype), given["weight"].clone()
        under_both(lambda given=given, dout=dout: gradients(given, dout, "native"))
        step = dict(alpha=-0.1, beta=1.0, base_weight=base, base_bias=given["bias"])
        under_both(lambda g=given, d=dout, s=step: gradients(g, d, "native", **s))


@every_dtype
@pytest.mark.parametrize("batch", BATCHES)
def test_thin_factors(batch: int, dtype: torch.dtype) -> None:
    for inputs, outputs in SIDES:
        x, d = (block(i, 2, batch, n, dtype=dtype) for i, n in ((1, inputs), (2, outputs)))

        def results(x: Tensor = x, d: Tensor = d) -> dict[str, Tensor]:
            gram, squares = ghost(x, d, ones=1.0, backend="native")
            base = torch.ones_like(d)
            out = lowrank(x, x, d, 0.5, ones=1.0, base=base, backend="native")
            again = lowrank(d, d, x, 0.5, base=torch.ones_like(x), backend="native")
            return {"gram": gram, "squares": squares, "out": out, "again": again}

        under_both(results)


@every_dtype
@pytest.mark.parametrize("batch", [3, 20, 70])
def test_lstms(batch: int, dtype: torch.dtype) -> None:
    case = problem(2, batch, 4, 33, 24, dtype=dtype)
    under_both(lambda: both(*case))


@pytest.mark.parametrize("name", FRAMES)
def test_convolutions_by_frames(name: str) -> None:
    under_both(lambda: convolve(SHAPES[name], "native"))


def test_weights_that_all_clients_share() -> None:
    x, w = block(1, 3, 50, 130), block(2, 3, 70, 130, kind="shared")
    under_both(lambda: {"out": linear(x, w, out=poison(3, 50, 70), backend="native")})


def test_whole_runs_without_convolutions() -> None:
    """As the file of digests has them, the quickstart among them."""
    two, five = (kept()[part] for part in PARTS)
    dense = [name for name in five if not name.startswith(CONVOLUTIONS)]
    assert "quickstart fedsam" in dense and len(dense) > 50
    assert [name for name in dense if two[name] != five[name]] == []
