"""`mix`: a linear combination of two banks; the operation to copy for a new one (CONTRIBUTING.md).

    out = a * x + b * y

Bytes per element of a client (f = element size): reads 2 f (f where a row is shared), writes f.
Deterministic: element-wise.
"""

from __future__ import annotations

from torch import Tensor

from ._args import Coefficient
from .declaration import In, Out, PerClient
from .operation import operation


@operation(
    In("x", "K S"),
    In("y", "K S"),
    PerClient("a"),
    PerClient("b"),
    Out("out", "K S", may="x y"),
    returns="out",
    moves="x + y + out",
)
def mix(
    x: Tensor,
    y: Tensor,
    a: Coefficient = 1.0,
    b: Coefficient = 1.0,
    *,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out = a * x + b * y` for K clients.

    x, y   `[K, S]` or a row `[S]` shared by all clients
    a, b   numbers or `[K]`
    out    `[K, S]`; may be x or y itself; allocated if None
    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices.
    """
