"""`log_softmax` and its backward: K clients' log-probabilities, over the last dimension.

    out = x - max x - log sum exp(x - max x)
    dx  = dout - exp(out) sum dout

Bytes per element (f = element size): reads f, writes f; reads 2 f, writes f backward.
Operations: about 20 per element, for the exponentials.
Deterministic: a row is one thread's or one program's work; sums are added in order, in float64.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import native_sequences
from ._blocks import block, floating, written
from .reference import softmax as reference
from .registry import dispatch
from .triton import softmax as triton


def log_softmax(x: Tensor, *, out: Tensor | None = None, backend: str = "auto") -> Tensor:
    """Return `out`, whose exponentials add up to 1 along the last dimension.

    x    `[K, ..., C]`, each client's part contiguous
    out  as x; may be x; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
    x = _rows("x", x)
    return dispatch(_FORWARD, backend, x, x, written("out", out, x.shape, x))


def log_softmax_backward(
    out: Tensor, dout: Tensor, *, dx: Tensor | None = None, backend: str = "auto"
) -> Tensor:
    """Return `dx`, the gradient of what went into `log_softmax`.

    out   what came out of it, `[K, ..., C]`
    dout  as out
    dx    as out; may be dout; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
    out = _rows("out", out)
    dout = block("dout", dout, out.shape, out)
    return dispatch(_BACKWARD, backend, out, out, dout, written("dx", dx, out.shape, out))


def _rows(name: str, value: Any) -> Tensor:
    value = floating(name, value, "K, ...")
    if value.ndim < 2 or value.shape[-1] == 0:
        raise ValueError(f"{name}: expected shape [K, ..., C], C > 0; got {list(value.shape)}")
    return value


_FORWARD = {
    "reference": reference.log_softmax,
    "native": native_sequences.log_softmax,
    "triton": triton.log_softmax,
}
_BACKWARD = {
    "reference": reference.log_softmax_backward,
    "native": native_sequences.log_softmax_backward,
    "triton": triton.log_softmax_backward,
}
