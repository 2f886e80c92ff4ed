"""`log_softmax` and its backward: K clients' log-probabilities, over the last dimension.

    out = x - max x - log sum exp(x - max x)
    dx  = dout - exp(out) sum dout

Bytes per element (f = element size): reads f, writes f; reads 2 f, writes f backward.
Operations: about 20 per element, for the exponentials.
Deterministic: a row is one thread's or one program's work; sums are added in order, in float64.
"""

from __future__ import annotations

from torch import Tensor

from ._blocks import floating
from .declaration import In, Out
from .operation import operation


def _rows(name: str, value: object) -> Tensor:
    value = floating(name, value, "K, ...")
    if value.ndim < 2 or value.shape[-1] == 0:
        raise ValueError(f"{name}: expected shape [K, ..., C], C > 0; got {list(value.shape)}")
    return value


@operation(
    In("x", "K ... C", check=_rows),
    Out("out", "K ... C", may="x"),
    returns="out",
    moves="x + out",
)
def log_softmax(x: Tensor, *, out: Tensor | None = None, backend: str = "auto") -> Tensor:
    """Return `out`, whose exponentials add up to 1 along the last dimension.

    x    `[K, ..., C]`, each client's part contiguous
    out  as x; may be x; allocated if None
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("out", "K ... C", check=_rows),
    In("dout", "K ... C"),
    Out("dx", "K ... C", may="out dout"),
    returns="dx",
    moves="out + dout + dx",
)
def log_softmax_backward(
    out: Tensor, dout: Tensor, *, dx: Tensor | None = None, backend: str = "auto"
) -> Tensor:
    """Return `dx`, the gradient of what went into `log_softmax`.

    out   what came out of it, `[K, ..., C]`
    dout  as out
    dx    as out; may be dout; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
