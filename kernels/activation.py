"""`activation` and `activation_backward`: element by element over `[K, ...]`.

    out = act(x),   dx = dout act'(x)

    relu        max(x, 0)                 leaky_relu  x if x > 0 else slope x
    tanh        tanh(x)                   sigmoid     1 / (1 + exp(-x))
    gelu        x Phi(x), the exact one   silu        x sigmoid(x)
    relu6       min(max(x, 0), 6)

Bytes per element (f = element size): 2 f forward, 3 to 4 f backward. Operations: 1 (relu) to
about 30 (tanh, silu).
Deterministic: element-wise; float32's exp and tanh are polynomials, within 4 units in the last
place, with the same bits on every instruction set; the Triton voice takes the same ones.
Source: exp and tanh after Cephes (Moshier); gelu: Hendrycks & Gimpel 2016; silu: Elfwing et al.
2018.
"""

from __future__ import annotations

from torch import Tensor

from . import native_layers
from ._blocks import block, floating, written
from .reference import activation as reference
from .registry import dispatch
from .triton import activation as triton

KINDS = ("relu", "tanh", "gelu", "silu", "leaky_relu", "sigmoid", "relu6")


def activation(
    x: Tensor,
    kind: str,
    *,
    slope: float = 0.01,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out = act(x)`, as torch defines it.

    x      `[K, ...]`, each client's part contiguous
    kind   one of `KINDS`
    slope  of leaky_relu below 0
    out    as x; may be x; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, ...")
    out = written("out", out, x.shape, x)
    return dispatch(_ACTIVATION, backend, x, x, _kind(kind), slope, out)


def activation_backward(
    x: Tensor,
    out: Tensor,
    dout: Tensor,
    kind: str,
    *,
    slope: float = 0.01,
    dx: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `dx = dout * act'(x)`.

    x, out   what went into `activation` and what came out, both before anything overwrote them;
             relu, relu6, tanh and sigmoid read only out, so that x may then be out
    dout     as x
    dx       as x; may be dout; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, ...")
    out, dout = block("out", out, x.shape, x), block("dout", dout, x.shape, x)
    dx = written("dx", dx, x.shape, x)
    return dispatch(_ACTIVATION_BACKWARD, backend, x, x, out, dout, _kind(kind), slope, dx)


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}; got {kind!r}")
    return kind


_ACTIVATION = {
    "reference": reference.activation,
    "native": native_layers.activation,
    "triton": triton.activation,
}
_ACTIVATION_BACKWARD = {
    "reference": reference.activation_backward,
    "native": native_layers.activation_backward,
    "triton": triton.activation_backward,
}
