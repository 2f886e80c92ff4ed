"""`precision="tf32x3"` is as exact as float32, to 1e-6 of the sum of the products' magnitudes.

The kernels run with products of tensor cores and of float32 emulated (`tensor_cores.py`); errors of
both against float64. docs/gpu.md states the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

pytest.importorskip("triton", reason="Triton is not installed on this platform")

import tensor_cores  # noqa: E402
from fedfast.kernels import conv, conv_backward, ghost, linear, linear_backward  # noqa: E402
from tensor_cores import AMPERE, HOPPER, TensorCores  # noqa: E402

BOUND = 1e-6  # more than float32's
CUT = 2.5e-6  # of sums of which tensor cores cut off as much as they can
DEVICES = pytest.mark.parametrize("cores", [AMPERE, HOPPER], ids=["sm_80", "sm_90"])
Product = tuple[Callable[[Tensor, Tensor, str], Tensor], Callable[[Tensor, Tensor], Tensor]]


def dense(x: Tensor, w: Tensor, precision: str) -> Tensor:
    """x [B, I], w [O, I] of a client."""
    return linear(x[None], w[None], precision=precision, backend="triton")[0]


def dense_data(d: Tensor, w: Tensor, precision: str) -> Tensor:
    """dx of d [B, O] and w [O, I]."""
    x = d.new_zeros(1, len(d), w.shape[1])
    options: dict[str, Any] = dict(dx=torch.empty_like(x), precision=precision, backend="triton")
    linear_backward(x, w[None], d[None], d[None].clone(), **options)
    return options["dx"][0]


def dense_weight(x: Tensor, d: Tensor, precision: str) -> Tensor:
    """dW of x [B, I] and d [B, O]."""
    w = x.new_zeros(1, d.shape[1], x.shape[1])
    options: dict[str, Any] = dict(dweight=torch.empty_like(w), precision=precision)
    linear_backward(x[None], w, d[None], d[None].clone(), backend="triton", **options)
    return options["dweight"][0]


def grams(x: Tensor, d: Tensor, precision: str) -> Tensor:
    """x x^T of a batch."""
    return ghost(x[None], d[None], precision=precision, backend="triton")[0][0]


def window(x: Tensor, w: Tensor, precision: str) -> Tensor:
    """x [B, C, H, W], w [O, C, 3, 3]."""
    return conv(x[None], w[None], padding=1, precision=precision, backend="triton")[0]


def window_data(d: Tensor, w: Tensor, precision: str) -> Tensor:
    x = d.new_zeros(1, len(d), w.shape[1], *d.shape[2:])
    options: dict[str, Any] = dict(dx=torch.empty_like(x), precision=precision, padding=1)
    conv_backward(x, w[None], d[None], d[None].clone(), backend="triton", **options)
    return options["dx"][0]


def window_weight(x: Tensor, d: Tensor, precision: str) -> Tensor:
    w = x.new_zeros(1, d.shape[1], x.shape[1], 3, 3)
    options: dict[str, Any] = dict(dweight=torch.empty_like(w), precision=precision, padding=1)
    conv_backward(x[None], w, d[None], d[None].clone(), backend="triton", **options)
    return options["dweight"][0]


def sides(d: Tensor, w: Tensor) -> tuple[int, ...]:
    return len(d), w.shape[1], *d.shape[2:]


DENSE: Product = dense, lambda x, w: x @ w.T
DENSE_DATA: Product = dense_data, lambda d, w: d @ w
DENSE_WEIGHT: Product = dense_weight, lambda x, d: d.T @ x
GRAM: Product = grams, lambda x, d: x @ x.T
CONV: Product = window, lambda x, w: F.conv2d(x, w, padding=1)
CONV_DATA: Product = (window_data, lambda d, w: conv2d_input(sides(d, w), w, d, padding=1))
CONV_WEIGHT: Product = (
    window_weight,
    lambda x, d: conv2d_weight(x, (d.shape[1], x.shape[1], 3, 3), d, padding=1),
)
# Depths are those of layers of W1 to W5; of their rows and columns some.
LAYERS: dict[str, tuple[Product, tuple[int, ...], tuple[int, ...]]] = {
    "W1 linear, 3136": (DENSE, (16, 3136), (17, 3136)),
    "W2 linear, 784": (DENSE, (50, 784), (40, 784)),
    "W1 linear, 512 to 10": (DENSE, (50, 512), (10, 512)),
    "W1 linear, dx": (DENSE_DATA, (50, 512), (512, 40)),
    "W1 linear, dw": (DENSE_WEIGHT, (50, 64), (50, 64)),
    "W1 gram": (GRAM, (16, 3136), (16, 10)),
    "W5 conv": (CONV, (1, 64, 8, 8), (32, 64, 3, 3)),
    "W5 conv, 3rd": (CONV, (1, 256, 4, 4), (16, 256, 3, 3)),
    "W5 conv, dx": (CONV_DATA, (1, 64, 8, 8), (64, 32, 3, 3)),
    "W5 conv, dw": (CONV_WEIGHT, (4, 8, 16, 16), (4, 64, 16, 16)),
}


def numbers(kind: str, seed: int, *shape: int) -> Tensor:
    """float32 of a kind that rounding, cutting off or sums of one sign are hard on."""
    draw = torch.Generator().manual_seed(seed)
    normal = torch.randn(shape, generator=draw)
    whole = torch.randint(-24, 24, shape, generator=draw)
    bits = torch.randint(0, 1 << 13, shape, generator=draw, dtype=torch.int32)
    made: dict[str, Callable[[], Tensor]] = {
        "normal": lambda: normal,
        "positive": lambda: normal.abs(),
        "relu": lambda: normal.clamp_min(0),
        "equal": lambda: torch.full(shape, 0.1),
        "wide": lambda: normal * torch.exp2(whole),
        "halves": lambda: (bits * 0 + 0x3F800FFF).view(torch.float32),  # largest low parts
        "low bits": lambda: (bits + 0x3FFFE000).view(torch.float32),
        "short": lambda: torch.randint(-8, 8, shape, generator=draw).float(),
    }
    return made[kind]()


KINDS = "normal", "positive", "relu", "equal", "wide", "halves", "low bits", "short"


def worst(found: Tensor, product: Product, x: Tensor, y: Tensor) -> float:
    """The largest error as a share of the sum of the products' magnitudes."""
    x, y = x.double(), y.double()
    error, whole = (found.double() - product[1](x, y)).abs(), product[1](x.abs(), y.abs())
    assert found.isfinite().all() and bool((error[whole == 0] == 0).all())
    return float((error / whole.clamp_min(1e-300)).max())


def error(product: Product, x: Tensor, y: Tensor, precision: str, cores: TensorCores) -> float:
    """See `worst`; that the units are those that the precision is for."""
    with tensor_cores.emulated(cores) as used:
        found = worst(product[0](x, y, precision), product, x, y)
    assert set(used) == {"IEEE" if precision == "fp32" else "TF32"}
    return found


def both(product: Product, x: Tensor, y: Tensor, cores: TensorCores) -> tuple[float, float]:
    """The error of float32, and that of three products of TF32 parts."""
    fp32, tf32x3 = (error(product, x, y, name, cores) for name in ("fp32", "tf32x3"))
    return fp32, tf32x3


@cache
def layer(name: str, kind: str) -> tuple[Product, Tensor, Tensor, float]:
    """Operands, and the error of float32."""
    product, *shapes = LAYERS[name]
    x, y = (numbers(kind, seed, *shape) for seed, shape in enumerate(shapes))
    return product, x, y, error(product, x, y, "fp32", HOPPER)


@DEVICES
@pytest.mark.parametrize("kind", ["positive", "wide"])
@pytest.mark.parametrize("name", LAYERS)
def test_products_of_layers_are_as_exact_as_float32(
    name: str, kind: str, cores: TensorCores
) -> None:
    product, x, y, exact = layer(name, kind)
    found = error(product, x, y, "tf32x3", cores)
    assert found <= exact + BOUND, (found, exact)


@st.composite
def operands(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """[M, R], [N, R]; sums that cancel but for what was rounded; numbers of all magnitudes."""
    seed, depth = draw(st.integers(0, 2**31)), draw(st.integers(1, 100))
    side = draw(st.sampled_from([16, 33]))  # tiles of four warps and of eight
    x = numbers(draw(st.sampled_from(KINDS)), seed, side, depth)
    w = numbers(draw(st.sampled_from(KINDS)), seed + 1, side, depth)
    if draw(st.booleans()):
        x, w = torch.cat([x, x], 1), torch.cat([w, -w * (1 + draw(st.sampled_from(NEAR)))], 1)
    scale = 2.0 ** draw(st.integers(-40, 40))
    return x * scale, w


NEAR = 0.0, 2.0**-23, 2.0**-12, 2.0**-8


@DEVICES
@settings(max_examples=30, deadline=None, derandomize=True)
@given(operands())
def test_adversarial_products_are_as_exact_as_float32(
    cores: TensorCores, given: tuple[Tensor, Tensor]
) -> None:
    exact, found = both(DENSE, *given, cores)
    assert found <= exact + BOUND, (found, exact)


@DEVICES
@pytest.mark.parametrize("depth", [32, 33, 500])
def test_sums_made_to_be_cut_off(depth: int, cores: TensorCores) -> None:
    """The one thing that tensor cores do worse: float32 rounds, they cut off.

    1, and terms that lose nearly a half of themselves; no more in long sums than in short ones.
    """
    x, w = torch.full((16, depth), 1.9990234375 * 2.0**-cores.bits), torch.ones(16, depth)
    x[:, 0] = 1.0
    assert both(DENSE, x, w, cores)[1] <= CUT


def test_float32_loses_more_in_long_sums() -> None:
    x, w = torch.full((16, 500), 0.999 * 2.0**-24), torch.ones(16, 500)
    x[:, 0] = 1.0
    fp32, tf32x3 = both(DENSE, x, w, HOPPER)
    assert fp32 > 10 * CUT > 10 * tf32x3


def test_infinite_and_huge_operands_are_no_numbers() -> None:
    """As those of a diverged client: never a finite number in their place."""
    for value in (torch.inf, -torch.inf, torch.nan, torch.finfo(torch.float32).max):
        x, w = torch.ones(16, 16), torch.ones(16, 16)
        x[0, 3] = value
        out = dense(x, w, "tf32x3")
        assert out[0].isfinite().sum() == 0 and out[1:].isfinite().all()


def test_the_emulation_is_that_of_the_papers() -> None:
    """Terms below the kept bits are lost, sums are cut off towards 0, 13 bits are not read."""

    def one(cores: TensorCores, a: Sequence[float], acc: float = 0.0) -> float:
        left = np.array([a], np.float32)
        right = np.ones((left.shape[1], 1), np.float32)
        return float(cores.product(left, right, np.array([[acc]], np.float32))[0, 0])

    bit = 2.0**-23
    assert one(HOPPER, [1, *[bit / 4] * 4]) == 1 + bit
    assert one(AMPERE, [1, *[bit / 4] * 3]) == 1
    assert one(AMPERE, [bit / 2] * 2, 1.0) == 1 + bit
    assert one(HOPPER, [-bit / 2 - bit / 4], -1.0) == -1
    assert one(HOPPER, [1 + bit]) == 1 and one(HOPPER, [1 + 2**13 * bit]) == 1 + 2**13 * bit
