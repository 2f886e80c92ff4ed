"""`ghost`, `reach`, `lowrank` against gradients written down in float64, and what they promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedfast.kernels import ghost, lowrank, reach
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import DTYPES, ISAS, TOLERANCE, block, close, isa, poison, same
from torch import Tensor

VOICES = ("reference", "native", "triton")
ACTIVATIONS = {None: lambda z: z, "relu": torch.relu, "tanh": torch.tanh}
Shape = tuple[int, int, int, int]

# [K, B, I, O]: one tile and many, rows of the gradient left over, edges everywhere.
SHAPES: list[Shape] = [(2, 10, 784, 20), (2, 1, 1, 1), (3, 50, 33, 10), (1, 70, 17, 130)]
SMALL = SHAPES[1:3]  # for Triton's interpreter, which takes milliseconds per program
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=("float32", "float64"))
every_voice = pytest.mark.parametrize("voice", VOICES)


def factors(shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x [K, B, I] and d [K, B, O]."""
    k, batch, inputs, outputs = shape
    return block(1, k, batch, inputs, dtype=dtype), block(2, k, batch, outputs, dtype=dtype)


def squared_norm(x: Tensor, d: Tensor, ones: float) -> Tensor:
    """Of the gradient itself, by torch in float64."""
    weight, bias = torch.einsum("kbo,kbi->koi", d.double(), x.double()), d.double().sum(1)
    return weight.square().sum((1, 2)) + ones * bias.square().sum(1)


def judge_ghost(shape: Shape, dtype: torch.dtype, ones: float, voice: str) -> None:
    x, d = factors(shape, dtype)
    gram, squares = poison(shape[0], *shape[1:2] * 2, dtype=dtype), poison(shape[0], 3).double()
    ghost(x, d, ones=ones, gram=gram, squares=squares[:, 1], backend=voice)
    close(gram, x.double() @ x.double().transpose(1, 2) + ones, 4 * TOLERANCE[dtype])
    torch.testing.assert_close(
        squares[:, 1], squared_norm(x, d, ones), rtol=4 * TOLERANCE[dtype], atol=0
    )
    assert squares[:, ::2].isnan().all(), "only its own column is written"


def judge_lowrank(
    shape: Shape, dtype: torch.dtype, activation: str | None, known: bool, voice: str
) -> None:
    (x, v), u = factors(shape, dtype), block(3, *shape[:3], dtype=dtype)
    base, scale = block(4, *v.shape, dtype=dtype), torch.linspace(-0.5, 0.5, shape[0]).to(dtype)
    gram = (x @ u.transpose(1, 2) + 1) if known else None
    given = dict(base=base, ones=1.0, gram=gram, activation=activation, backend=voice)
    out = lowrank(x, u, v, scale, out=poison(*v.shape, dtype=dtype), **given)
    wide = x.double() @ u.double().transpose(1, 2) + 1
    moved = scale.double()[:, None, None] * (wide @ v.double())
    expected = ACTIVATIONS[activation](base.double() + moved)
    size = base.abs() + scale.abs()[:, None, None] * (wide.abs() @ v.double().abs())
    error = (out.double() - expected).flatten(1).norm(dim=1)
    assert (error <= 4 * TOLERANCE[dtype] * size.double().flatten(1).norm(dim=1)).all()
    same(lowrank(x, u, v, scale, out=base, **given), out)


@every_voice
@every_dtype
@every_shape
def test_against_the_gradient_itself(shape: Shape, dtype: torch.dtype, voice: str) -> None:
    if voice == "triton" and shape not in SMALL:
        pytest.skip("enough of it is in the other shapes")
    judge_ghost(shape, dtype, 1.0, voice)
    judge_lowrank(shape, dtype, "tanh", False, voice)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, n) for n in (4, 60, 90, 60)]),
    dtype=st.sampled_from(DTYPES),
    ones=st.sampled_from([0.0, 1.0]),
    activation=st.sampled_from(list(ACTIVATIONS)),
    known=st.booleans(),
)
def test_any_shape(
    shape: Shape, dtype: torch.dtype, ones: float, activation: str | None, known: bool
) -> None:
    judge_ghost(shape, dtype, ones, "native")
    judge_lowrank(shape, dtype, activation, known, "native")


@pytest.mark.parametrize("name", ISAS)
@every_dtype
def test_every_instruction_set(name: str, dtype: torch.dtype) -> None:
    with isa(name):
        for shape in SHAPES:
            judge_ghost(shape, dtype, 1.0, "native")
            judge_lowrank(shape, dtype, None, False, "native")


@every_voice
@every_dtype
@pytest.mark.parametrize("left", [0.0, 1e-3])
def test_a_gradient_that_cancels_keeps_its_norm(
    left: float, dtype: torch.dtype, voice: str
) -> None:
    """The same samples pull both ways: Gram matrices alone would leave their rounding."""
    x, d = factors((2, 8, 40, 12), dtype)
    x, d = torch.cat([x, x], 1), torch.cat([d, (left - 1) * d], 1)
    expected = squared_norm(x, d, 1.0)
    _, squares = ghost(x, d, ones=1.0, backend=voice)
    rounding = (TOLERANCE[dtype] * x.abs().amax() * d.abs().amax()) ** 2 * x[0].numel()
    assert ((squares - expected).abs() <= 1e-3 * expected + rounding).all()


@every_voice
def test_scale_zero_is_the_layer_itself(voice: str) -> None:
    (x, v), base = factors((3, 10, 30, 20), torch.float32), block(4, 3, 10, 20)
    out = lowrank(x, x, v, 0.0, base=base, activation="relu", backend=voice)
    same(out, torch.relu(base))


@every_voice
@every_dtype
def test_reach_is_the_radius_over_the_norm(dtype: torch.dtype, voice: str) -> None:
    sums = torch.rand(3, 4, 5, dtype=torch.float64)
    squares = torch.rand(3, 2, dtype=torch.float64)
    squares[2], sums[2] = 0, 0
    out = reach([squares, sums[..., 1]], 0.3, 1e-3, out=poison(3, dtype=dtype), backend=voice)
    norm = (squares.sum(1) + sums[..., 1].sum(1)).sqrt()
    torch.testing.assert_close(out.double(), 0.3 / (norm + 1e-3), rtol=TOLERANCE[dtype], atol=0)
    alone = reach([squares[:2]], 0.3, 1e-3, out=poison(2, dtype=dtype), backend=voice)
    expected = 0.3 / (squares[:2].sum(1).sqrt() + 1e-3)
    torch.testing.assert_close(alone.double(), expected, rtol=TOLERANCE[dtype], atol=0)


@every_voice
@every_dtype
def test_reach_is_the_clip_of_a_step(dtype: torch.dtype, voice: str) -> None:
    """`min(1, c / (|g| + 1e-6))`: exactly 1 where nothing is clipped."""
    squares = torch.tensor([[4.0, 5.0], [0.5, 0.25], [0.0, 0.0], [torch.nan, 1.0]]).double()
    clip = dict(most=1.0, out=poison(4, dtype=dtype), backend=voice)
    out = reach([squares], 2.0, 1e-6, **clip)
    torch.testing.assert_close(out[0].item(), 2 / (3 + 1e-6), rtol=1e-6, atol=0)
    same(out[1:3], torch.ones(2, dtype=dtype))
    assert out[3].isnan()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_broken_client_breaks_no_other_and_is_seen(bad: float) -> None:
    x, d = factors((3, 10, 30, 20), torch.float32)
    whole = ghost(x, d)[1]
    d[1, 3, 4] = bad
    squares = ghost(x, d)[1]
    same(squares[::2], whole[::2])
    assert not squares[1].isfinite()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, d: ghost(x, d[:, :2]), ValueError, r"d: expected shape \[2, 3, 5\]"),
        (lambda x, d: ghost(x, d, gram=x), ValueError, r"gram: expected shape \[2, 3, 3\]"),
        (lambda x, d: ghost(x, d, squares=d[:, 0, 0]), TypeError, "squares: expected a float64"),
        (lambda x, d: lowrank(x, d, d, 1.0, base=d), ValueError, r"u: expected shape \[2, 3, 4\]"),
        (lambda x, d: lowrank(x, x, d, 1.0, base=x), ValueError, r"base: expected shape"),
        (
            lambda x, d: lowrank(x, x, d, 1.0, base=d, activation="gelu"),
            ValueError,
            "activation: expected None",
        ),
        (lambda x, d: reach([], 1.0, 0.0, out=torch.zeros(2)), ValueError, "squares: expected one"),
        (lambda x, d: reach([d[0]], 1.0, 0.0, out=torch.zeros(2)), TypeError, r"squares\[0\]"),
        (lambda x, d: reach([d[0].double()], 1.0, 0.0, out=d), ValueError, "out: expected"),
    ],
)
def test_errors_name_the_argument(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5))
