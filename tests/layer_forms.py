"""The layer operations in the forms that compile differently, for `aot.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from fedfast.kernels import linear, linear_backward

Forms = Iterator[tuple[str, Callable[[], Any]]]
CLIENTS = 3


def dense_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """Linear layers of 36 and 68 features, whose rows are 16 but not 64 bytes apart, or of 33."""
    batch, inputs, outputs = (50, 36, 68) if aligned else (9, 33, 33)
    x, dx = torch.zeros(2, CLIENTS, batch, inputs, dtype=dtype)
    weight = torch.zeros(CLIENTS, outputs, inputs, dtype=dtype)
    out, dout = torch.zeros(2, CLIENTS, batch, outputs, dtype=dtype)
    bias = torch.zeros(CLIENTS, outputs, dtype=dtype)
    for precision in (
        ("fp32", "tf32x3", "tf32") if dtype == torch.float32 and aligned else ("fp32",)
    ):
        options = dict(precision=precision, activation="tanh", backend="triton")
        yield f"linear {precision}", partial(linear, x, weight, bias, out=out, **options)
        sinks = dict(dx=dx, dweight=weight, dbias=bias)
        backward = partial(linear_backward, x, weight, out, dout, **sinks, **options)
        yield f"linear_backward {precision}", backward
