"""The operations on images in the forms that compile differently, for `aot.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from fedfast.kernels import conv, conv_backward

Forms = Iterator[tuple[str, Callable[[], Any]]]
CLIENTS, BATCH = 3, 8
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "3x3": ((32, 14, 14), (64, 32, 3, 3), dict(padding=1)),
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
