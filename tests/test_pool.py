"""`pool` and `adaptive_avg` against torch's own in float64, and what they promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedfast.kernels import adaptive_avg, adaptive_avg_backward, pool, pool_backward
from hypothesis import given, settings
from hypothesis import strategies as st
from images import close, draw, every_dtype, generator, in_rows, poison
from layer_cases import same
from torch import Tensor
from torch.nn import functional as F

every_voice = pytest.mark.parametrize("voice", ("native", "reference", "triton"))
compiled = pytest.mark.parametrize("voice", ("native", "reference"))


def torch_pool(x: Tensor, kind: str, window: dict[str, Any], include: bool) -> Tensor:
    size = (window["kernel"], window["stride"], window["padding"])
    if kind == "max":
        return F.max_pool2d(x, *size)
    return F.avg_pool2d(x, *size, count_include_pad=include)


def pooled(
    x: Tensor, kind: str, voice: str, include: bool, which: slice = slice(3), **window: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """out, dout and dx, in poisoned buffers."""
    options = window | {"count_include_pad": include, "backend": voice}
    shape = pool(x, kind, **options).shape
    out, dx = poison(*shape, dtype=x.dtype), poison(*x.shape, dtype=x.dtype)
    where = torch.full(shape, -7, dtype=torch.int32) if kind == "max" else None
    pool(x, kind, out=out, argmax=where, **options)
    dout = in_rows(draw(generator(4), 5, *shape[1:], dtype=x.dtype)[which][: shape[0]])
    pool_backward(dout, kind, dx=dx, argmax=where, **options)
    return out, dout, dx


def check(x: Tensor, kind: str, voice: str, include: bool = True, **window: Any) -> None:
    out, dout, dx = pooled(x, kind, voice, include, **window)
    for k in range(x.shape[0]):
        leaf = x[k].double().requires_grad_()
        expected = torch_pool(leaf, kind, window, include)
        close(out[k], expected.detach())
        close(dx[k], torch.autograd.grad(expected, leaf, dout[k].double())[0])


WINDOWS = {
    "halves": dict(kernel=2, stride=2, padding=0),
    "overlapping": dict(kernel=3, stride=2, padding=1),
    "dense": dict(kernel=(2, 3), stride=1, padding=(1, 0)),
    "apart": dict(kernel=(1, 2), stride=(3, 3), padding=0),
    "whole": dict(kernel=(9, 11), stride=1, padding=0),
}


@compiled
@every_dtype
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS.keys())
def test_against_torch(window: dict[str, Any], kind: str, dtype: torch.dtype, voice: str) -> None:
    x = in_rows(draw(generator(1), 3, 2, 3, 9, 11, dtype=dtype))
    check(x, kind, voice, **window)
    if kind == "avg":
        check(x, kind, voice, include=False, **window)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_window(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(data.draw(st.integers(0, t // 2)) for t in kernel)
    sides = [t + data.draw(st.integers(0, 20)) for t in kernel]
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    clients, batch = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    x = in_rows(draw(generator(2), clients, batch, 3, *sides, dtype=dtype))
    stride = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    window = dict(kernel=kernel, stride=stride, padding=padding)
    kind, include = data.draw(st.sampled_from(["max", "avg"])), data.draw(st.booleans())
    check(x, kind, "native", include, **window)


@every_voice
def test_of_equals_the_first_and_nan_wins(voice: str) -> None:
    x = torch.tensor([[1.0, 1.0, 2.0, 3.0], [1.0, 1.0, torch.nan, 4.0]]).view(1, 1, 1, 2, 4)
    where = torch.empty(1, 1, 1, 1, 2, dtype=torch.int32)
    out = pool(x, "max", 2, argmax=where, backend=voice)
    same(out.flatten(), torch.tensor([1.0, torch.nan]))
    assert where.flatten().tolist() == [0, 6]
    low = torch.full((1, 1, 1, 2, 2), -torch.inf)
    assert pool(low, "max", 2, argmax=where[..., :1].contiguous(), backend=voice) == -torch.inf


@compiled
@every_dtype
@pytest.mark.parametrize("size", [1, (1, 3), (4, 5), (9, 11), (10, 12)])
def test_adaptive_against_torch(size: Any, dtype: torch.dtype, voice: str) -> None:
    x = in_rows(draw(generator(1), 2, 2, 3, 9, 11, dtype=dtype))
    out = adaptive_avg(x, size, backend=voice)
    dout = draw(generator(2), *out.shape, dtype=dtype)
    dx = poison(*x.shape, dtype=dtype)
    adaptive_avg_backward(dout, dx=dx, backend=voice)
    for k in range(2):
        leaf = x[k].double().requires_grad_()
        expected = F.adaptive_avg_pool2d(leaf, size)
        close(out[k], expected.detach())
        close(dx[k], torch.autograd.grad(expected, leaf, dout[k].double())[0])


def wrong(**changes: Any) -> dict[str, Any]:
    return dict(x=torch.ones(2, 3, 4, 8, 8), kind="max", kernel=2) | changes


ERRORS = {
    "x: expected shape": wrong(x=torch.ones(3, 4, 8, 8)),
    "kind: expected": wrong(kind="min"),
    "kernel: expected an int": wrong(kernel=0),
    "kernel: expected a window that fits": wrong(kernel=9),
    "padding: expected at most half": wrong(padding=2),
    "argmax: expected dtype": wrong(argmax=torch.ones(2, 3, 4, 4, 4)),
    "argmax: expected None": wrong(kind="avg", argmax=torch.ones(2, 3, 4, 4, 4)),
    "out: expected shape": wrong(out=torch.ones(2, 3, 4, 4, 5)),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_the_argument(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        pool(**ERRORS[message])


def test_backward_asks_for_argmax() -> None:
    with pytest.raises(ValueError, match="argmax: expected what pool"):
        pool_backward(torch.ones(1, 1, 1, 2, 2), "max", 2, dx=torch.ones(1, 1, 1, 4, 4))
