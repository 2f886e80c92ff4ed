"""The operations on images in the forms that compile differently, for `aot.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from fedfast.kernels import (
    batch_norm,
    batch_norm_backward,
    conv,
    conv_backward,
    conv_pool,
    conv_pool_backward,
    group_norm,
    group_norm_backward,
    layer_norm_backward,
)

Forms = Iterator[tuple[str, Callable[[], Any]]]
CLIENTS, BATCH = 3, 8
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "3x3": ((32, 14, 14), (64, 32, 3, 3), dict(padding=1)),
    "halved": ((32, 16, 16), (64, 32, 3, 3), dict(padding=1)),
    "1x1": ((32, 14, 14), (64, 32, 1, 1), dict()),
    "first": ((1, 28, 28), (32, 1, 5, 5), dict(padding=2)),
    "strided": ((32, 14, 14), (64, 32, 3, 3), dict(padding=1, stride=2)),
    "depthwise": ((32, 14, 14), (32, 1, 3, 3), dict(padding=1, groups=32)),
}


def conv_forms(dtype: torch.dtype, layers: tuple[str, ...], precision: str) -> Forms:
    """Forward and backward of some of `LAYERS`, with bias and activation, dweight in place."""
    for name in layers:
        image, kernel, geometry = LAYERS[name]
        x, dx = torch.zeros(2, CLIENTS, BATCH, *image, dtype=dtype)
        weight = torch.zeros(CLIENTS, *kernel, dtype=dtype)
        bias = torch.zeros(CLIENTS, kernel[0], dtype=dtype)
        options = geometry | dict(precision=precision, activation="relu", backend="triton")
        side = image[1] // geometry.get("stride", 1)
        out, dout = torch.zeros(2, CLIENTS, BATCH, kernel[0], side, side, dtype=dtype)
        yield f"conv {name} {precision}", partial(conv, x, weight, bias, out=out, **options)
        sinks = dict(dx=dx, dweight=weight, dbias=bias)
        backward = partial(conv_backward, x, weight, out, dout, **sinks, **options)
        yield f"conv_backward {name} {precision}", backward


def pooled_forms(dtype: torch.dtype, layers: tuple[str, ...], precision: str) -> Forms:
    """The same with 2 x 2 windows over the results."""
    for name in layers:
        image, kernel, geometry = LAYERS[name]
        x, dx = torch.zeros(2, CLIENTS, BATCH, *image, dtype=dtype)
        weight = torch.zeros(CLIENTS, *kernel, dtype=dtype)
        bias = torch.zeros(CLIENTS, kernel[0], dtype=dtype)
        options = geometry | dict(precision=precision, activation="relu", backend="triton")
        side = image[1] // geometry.get("stride", 1) // 2
        out, dout = torch.zeros(2, CLIENTS, BATCH, kernel[0], side, side, dtype=dtype)
        options |= dict(kernel=2, tap=torch.zeros(out.shape, dtype=torch.uint8))
        yield (
            f"conv_pool {name} {precision}",
            partial(conv_pool, x, weight, bias, out=out, **options),
        )
        sinks = dict(dx=dx, dweight=weight, dbias=bias)
        backward = partial(conv_pool_backward, x, weight, out, dout=dout, **sinks, **options)
        yield f"conv_pool_backward {name} {precision}", backward
        squares = torch.zeros(CLIENTS, dtype=torch.float64)
        yield f"squares {name} {precision}", partial(backward, dx=None, squares=squares)


def norm_forms(dtype: torch.dtype) -> Forms:
    """Norms over 14x14 images and over rows, with everything they can write."""
    x, dx, dout, out = torch.zeros(4, CLIENTS, BATCH, 32, 14, 14, dtype=dtype)
    weight, bias, mean, var, rstd = torch.zeros(5, CLIENTS, 32, dtype=dtype)
    backend = dict(backend="triton")
    running = dict(running_mean=mean, running_var=var)
    saved, sinks = dict(out=out, mean=mean, rstd=rstd), dict(dweight=weight, dbias=bias)
    yield "batch_norm", partial(batch_norm, x, weight, bias, **running, **saved, **backend)
    args = (x, weight, dout, mean, rstd)
    yield "batch_norm_backward", partial(batch_norm_backward, *args, dx=dx, **sinks, **backend)
    means, rstds = torch.zeros(2, CLIENTS, BATCH, 8, dtype=dtype)
    saved = dict(out=out, mean=means, rstd=rstds)
    yield "group_norm", partial(group_norm, x, 8, weight, bias, **saved, **backend)
    args = (x, 8, weight, dout, means, rstds)
    yield "group_norm_backward", partial(group_norm_backward, *args, dx=dx, **sinks, **backend)
    rows, drows, given = torch.zeros(3, CLIENTS, BATCH, 32, dtype=dtype)
    flat = torch.zeros(2, CLIENTS, BATCH, dtype=dtype)
    backward = partial(layer_norm_backward, rows, (32,), weight, given, *flat)
    yield "layer_norm_backward", partial(backward, dx=drows, **sinks, **backend)
