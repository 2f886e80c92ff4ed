"""`conv_pool` is `conv` and then `pool`: bits and gradients, in every voice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedfast.kernels import conv, conv_backward, conv_pool, conv_pool_backward, pool, pool_backward
from hypothesis import given, settings
from hypothesis import strategies as st
from images import close, draw, generator, in_rows, poison
from layer_cases import same, threads
from torch import Tensor
from torch.nn import functional as F

Case = tuple[tuple[int, ...], tuple[int, ...], Any, dict[str, Any]]

# images [B, C, H, W], weights [O, C / groups, kh, kw], window, what else `conv` is told: one for
# each way of forming products, rows of 16, 8, 4 and fewer windows, odd sizes, windows of others
CASES: dict[str, Case] = {
    "rows": ((3, 1, 28, 28), (8, 1, 5, 5), 2, dict(padding=2, activation="relu")),
    "spots": ((3, 3, 36, 36), (40, 3, 5, 5), 2, dict(activation="relu")),
    "squares": ((3, 32, 14, 14), (64, 32, 5, 5), 2, dict(padding=2, activation="relu")),
    "thin": ((7, 4, 12, 12), (12, 4, 5, 5), 2, dict(activation="relu")),
    "odd": ((2, 2, 9, 7), (5, 2, 2, 2), 2, dict(activation="tanh", stride=(1, 2), padding=1)),
    "any": ((2, 4, 11, 13), (6, 2, 3, 3), (3, 2), dict(groups=2, dilation=(1, 2))),
}


def tensors(case: Case, dtype: torch.dtype, clients: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    image, kernel, *_ = case
    random = generator(1)
    x, weight = (draw(random, clients, *shape, dtype=dtype) for shape in (image, kernel))
    return in_rows(x), in_rows(weight), in_rows(draw(random, clients, kernel[0], dtype=dtype), 3)


def fused(
    case: Case, given: tuple[Tensor, ...], voice: str, which: slice = slice(3)
) -> dict[str, Tensor]:
    """Everything the operations write for those clients, in poisoned buffers."""
    (x, weight, bias), (_, _, window, geometry) = given, case
    options = geometry | dict(kernel=window, backend=voice)
    shape, dtype = conv_pool(x, weight, bias, **options).shape, x.dtype
    out, tap = poison(*shape, dtype=dtype), torch.full(shape, 255, dtype=torch.uint8)
    conv_pool(x, weight, bias, out=out, tap=tap, **options)
    dx, dweight, dbias = (poison(*t.shape, dtype=dtype) for t in given)
    dout = in_rows(draw(generator(5), 3, *shape[1:], dtype=dtype)[which][: shape[0]])
    sinks = dict(dx=dx, dweight=dweight, dbias=dbias)
    conv_pool_backward(x, weight, out, tap, dout.clone(), **sinks, **options)
    return dict(out=out, tap=tap, dout=dout, **sinks)


def apart(case: Case, given: tuple[Tensor, ...], dout: Tensor) -> dict[str, Tensor]:
    """The same by `conv` and `pool`, compiled."""
    (x, weight, bias), (_, _, window, geometry) = given, case
    planes = conv(x, weight, bias, **geometry)
    out = pool(planes, "max", window)
    where = torch.empty(out.shape, dtype=torch.int32)
    pool(planes, "max", window, out=out, argmax=where)
    dplanes = pool_backward(dout, "max", window, dx=torch.empty_like(planes), argmax=where)
    dx, dweight, dbias = (torch.empty_like(t) for t in given)
    sinks = dict(dx=dx, dweight=dweight, dbias=dbias)
    conv_backward(x, weight, planes, dplanes, **sinks, **geometry)
    return dict(out=out, **sinks)


def autograd(case: Case, given: tuple[Tensor, ...], dout: Tensor, k: int) -> dict[str, Tensor]:
    """One client's, by torch in float64."""
    _, _, window, geometry = case
    act = geometry.get("activation")
    leaves = [t[k].double().requires_grad_() for t in given]
    z = F.conv2d(*leaves, **{n: v for n, v in geometry.items() if n != "activation"})
    out = F.max_pool2d(z if act is None else getattr(torch, act)(z), window)
    dx, dweight, dbias = torch.autograd.grad(out, leaves, dout[k].double())
    return dict(out=out.detach(), dx=dx, dweight=dweight, dbias=dbias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_the_compiled_voice_is_conv_and_pool_to_the_bit(name: str, dtype: torch.dtype) -> None:
    given = tensors(CASES[name], dtype)
    for count in (1, 2):
        with threads(count):
            found = fused(CASES[name], given, "native")
        for part, value in apart(CASES[name], given, found["dout"]).items():
            same(found[part], value)


@pytest.mark.parametrize("voice", ["native", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_against_autograd(name: str, voice: str) -> None:
    given = tensors(CASES[name], torch.float64, clients=2)
    found = fused(CASES[name], given, voice)
    for k in range(2):
        for part, value in autograd(CASES[name], given, found["dout"], k).items():
            close(found[part][k : k + 1], value[None])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    window = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    channels, outputs, batch = (data.draw(st.integers(1, n)) for n in (3, 9, 3))
    taps = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    sides = [t + w - 1 + data.draw(st.integers(0, 40)) for t, w in zip(taps, window, strict=True)]
    options = dict(activation=data.draw(st.sampled_from([None, "relu", "tanh"])))
    case = (batch, channels, *sides), (outputs, channels, *taps), window, options
    given = tensors(case, torch.float32, clients=2)
    found = fused(case, given, "native")
    for part, value in apart(case, given, found["dout"]).items():
        same(found[part], value)


@pytest.mark.parametrize("voice", ["native", "reference", "triton"])
def test_of_equals_the_first_and_nan_wins(voice: str) -> None:
    x = torch.tensor([[1.0, 1.0, 2.0, 3.0], [1.0, 1.0, torch.nan, 4.0]]).view(1, 1, 1, 2, 4)
    tap = torch.empty(1, 1, 1, 1, 2, dtype=torch.uint8)
    one = torch.ones(1, 1, 1, 1, 1)
    out = conv_pool(x, one, kernel=2, tap=tap, activation="relu", backend=voice)
    same(out.flatten(), torch.tensor([1.0, torch.nan]))
    assert tap.flatten().tolist() == [0, 2]
    low = torch.full((1, 1, 1, 2, 2), -torch.inf)
    assert conv_pool(low, one, kernel=2, backend=voice) == -torch.inf


def test_errors_name_the_argument() -> None:
    x, weight = torch.ones(2, 3, 4, 8, 8), torch.ones(2, 5, 4, 3, 3)
    with pytest.raises(ValueError, match="kernel: expected a window of at most 16 elements"):
        conv_pool(x, weight, kernel=5)
    with pytest.raises(ValueError, match="kernel: expected a window of at most 16"):
        conv_pool(x, weight, kernel=(7, 1))
    with pytest.raises(TypeError, match="tap: expected dtype torch.uint8"):
        conv_pool(x, weight, kernel=2, tap=torch.ones(2, 3, 5, 3, 3, dtype=torch.int32))
    with pytest.raises(ValueError, match="out: expected shape"):
        conv_pool(x, weight, kernel=2, out=torch.ones(2, 3, 5, 6, 6))
