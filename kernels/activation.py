"""`activation` and `activation_backward`: element by element over `[K, ...]`.

    out = act(x),   dx = dout act'(x)

    relu        max(x, 0)                 leaky_relu  x if x > 0 else slope x
    tanh        tanh(x)                   sigmoid     1 / (1 + exp(-x))
    gelu        x Phi(x), the exact one   silu        x sigmoid(x)
    relu6       min(max(x, 0), 6)

Bytes per element (f = element size): 2 f forward, 3 to 4 f backward. Operations: 1 (relu) to
about 30 (tanh, silu).
Deterministic: element-wise; float32's exp and tanh are polynomials, within 4 units in the last
place, with the same bits on every instruction set; Triton takes the same ones.
Source: exp and tanh after Cephes (Moshier); gelu: Hendrycks & Gimpel 2016; silu: Elfwing et al.
2018.
"""

from __future__ import annotations

from torch import Tensor

from .declaration import Choice, In, Number, Out
from .operation import operation

KINDS = ("relu", "tanh", "gelu", "silu", "leaky_relu", "sigmoid", "relu6")


@operation(
    In("x", "K ..."),
    Choice("kind", options=KINDS),
    Number("slope"),
    Out("out", "K ...", may="x"),
    returns="out",
    moves="x + out",
)
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


@operation(
    In("x", "K ..."),
    In("out", "K ..."),
    In("dout", "K ..."),
    Choice("kind", options=KINDS),
    Number("slope"),
    Out("dx", "K ...", may="x out dout"),
    returns="dx",
    moves="x or out + dout + dx",
)
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
