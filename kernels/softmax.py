"""`log_softmax` and its backward: K clients' log-probabilities, over the last dimension.

    out = x - max x - log sum exp(x - max x)
    dx  = dout - exp(out) sum dout

Bytes per element (f = element size): reads f, writes f; reads 2 f, writes f backward.
Operations: about 20 per element, for the exponentials.
Deterministic: a client is one thread's work; sums are added in order, in float64.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import _native_sequences, reference_sequences
from ._blocks import block, floating, no_triton, written
from ._launch import speak


def log_softmax(x: Tensor, *, out: Tensor | None = None, backend: str = "auto") -> Tensor:
    """Return `out`, whose exponentials add up to 1 along the last dimension.

    x    `[K, ..., C]`, each client's part contiguous
    out  as x; may be x; allocated if None
    Raises TypeError/ValueError naming the argument, RuntimeError on CUDA (no Triton voice yet).
    """
    x = _rows("x", x)
    return speak(_FORWARD, backend, x, x, written("out", out, x.shape, x))


def log_softmax_backward(
    out: Tensor, dout: Tensor, *, dx: Tensor | None = None, backend: str = "auto"
) -> Tensor:
    """Return `dx`, the gradient of what went into `log_softmax`.

    out   what came out of it, `[K, ..., C]`
    dout  as out
    dx    as out; may be dout; allocated if None
    Raises TypeError/ValueError naming the argument, RuntimeError on CUDA (no Triton voice yet).
    """
    out = _rows("out", out)
    dout = block("dout", dout, out.shape, out)
    return speak(_BACKWARD, backend, out, out, dout, written("dx", dx, out.shape, out))


def _rows(name: str, value: Any) -> Tensor:
    value = floating(name, value, "K, ...")
    if value.ndim < 2 or value.shape[-1] == 0:
        raise ValueError(f"{name}: expected shape [K, ..., C], C > 0; got {list(value.shape)}")
    return value


_FORWARD = {
    "reference": reference_sequences.log_softmax,
    "native": _native_sequences.log_softmax,
    "triton": no_triton("log_softmax"),
}
_BACKWARD = {
    "reference": reference_sequences.log_softmax_backward,
    "native": _native_sequences.log_softmax_backward,
    "triton": no_triton("log_softmax_backward"),
}
