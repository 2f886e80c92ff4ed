"""`layer_reach` against its formula on Python floats, and beside `perturb`, which moves rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fedfast.kernels import Segments, layer_reach, perturb
from layer_cases import poison, same
from torch import Tensor

every_backend = pytest.mark.parametrize("backend", ["native", "triton", "reference"])
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
EPS = 1e-3


def factor(rho: float, squares: list[float], limit: float) -> float:
    """The formula for one tensor of one client."""
    norm = math.sqrt(math.fsum(squares))
    left = min(limit / (norm + 1e-6), 1.0)
    return rho * left / (left * norm + EPS)


@every_backend
@every_dtype
@pytest.mark.parametrize("limit", [math.inf, 2.0])
def test_the_formula(limit: float, dtype: torch.dtype, backend: str) -> None:
    """Of norms below and above the limit, and of none; more tensors than lanes."""
    rho = torch.rand(3, 70, dtype=dtype)
    columns = 2 * torch.rand(3, 4, 5, dtype=torch.float64)
    squares = torch.tensor([[4.0, 5.0], [0.5, 0.25], [0.0, 0.0]]).double()
    columns[1:] *= 0.01
    columns[2] = 0.0
    parts = [squares, columns[..., 1]]
    wide = poison(70, 7, dtype=dtype)
    found = layer_reach(rho, parts, EPS, limit=limit, out=wide[:, 2:5], backend=backend)
    assert found.data_ptr() == wide[:, 2:].data_ptr()
    assert wide[:, :2].isnan().all() and wide[:, 5:].isnan().all()
    for k in range(3):
        own = [*squares[k].tolist(), *columns[k, :, 1].tolist()]
        right = [factor(r, own, limit) for r in rho[k].tolist()]
        assert found[:, k].tolist() == pytest.approx(right, rel=TOLERANCE[dtype])


@every_backend
@every_dtype
def test_a_limit_that_clips_nothing_is_none(dtype: torch.dtype, backend: str) -> None:
    rho, squares = torch.rand(3, 9, dtype=dtype), [torch.rand(3, 4, dtype=torch.float64)]
    plain, clipped = (
        layer_reach(rho, squares, EPS, limit=limit, backend=backend) for limit in (math.inf, 50.0)
    )
    same(clipped, plain)


@every_backend
def test_rows_moved_by_the_factors_are_those_that_perturb_moves(backend: str) -> None:
    table = Segments.of([0, 64, 100], [50, 33, 200])
    w, g = torch.randn(2, 3, 320, dtype=torch.float64)
    rho, norm = torch.rand(3, 3, dtype=torch.float64), g.norm(dim=1)
    out = torch.zeros_like(w)
    perturb(w, g, rho, out=out, segments=table, eps=EPS, norm=norm)
    scales = layer_reach(rho, [g.square()], EPS, backend=backend)
    for i, (a, b) in enumerate(table.spans):
        moved = w[:, a:b] + scales[i][:, None] * g[:, a:b]
        torch.testing.assert_close(moved, out[:, a:b], rtol=1e-12, atol=1e-13)


@every_backend
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of the interpreter
def test_a_norm_that_is_none_is_seen_and_an_infinite_one_moves_nothing(backend: str) -> None:
    squares = [torch.tensor([[torch.nan], [torch.inf], [4.0]]).double()]
    rho = torch.ones(3, 2)
    plain = layer_reach(rho, squares, EPS, backend=backend)
    clipped = layer_reach(rho, squares, EPS, limit=1.0, backend=backend)
    assert plain[:, 0].isnan().all() and clipped[:, :2].isnan().all()
    assert (plain[:, 1] == 0).all() and plain[0, 2].item() == pytest.approx(1 / (2 + EPS))


def refused(rho: Tensor, squares: Any, **options: Any) -> Any:
    return lambda: layer_reach(rho, squares, EPS, **options)


R, S = torch.ones(2, 3), [torch.ones(2, 4, dtype=torch.float64)]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (refused(R[0], S), ValueError, r"rho: expected shape \[K, L\]"),
        (refused(R, S[0]), TypeError, "squares: expected a sequence"),
        (refused(R, []), ValueError, "squares: expected one or two tensors; got 0"),
        (refused(R, [S[0].float()]), TypeError, r"squares\[0\]: expected a float64 tensor"),
        (refused(R, [S[0][:1]]), ValueError, r"squares\[0\]: expected shape \[K, n\]"),
        (refused(R, S, limit="x"), TypeError, "limit: expected a number"),
        (refused(R, S, out=torch.ones(2, 3)), ValueError, r"out: expected shape \[3, 2\]"),
        (refused(R, S, out=torch.ones(3, 2).double()), TypeError, "out: expected"),
    ],
)
def test_errors_name_the_argument(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        call()
