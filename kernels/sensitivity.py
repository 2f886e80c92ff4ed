"""`sensitivity`: how much each layer of each client changed, as a mean of squares.

    out[k, l] = mean over segment l of (n(x_k) - n(y_k))^2
    n(v) = (v - min v) / (max v - min v) over the segment when `normalize`, else v

Bytes per element of a client (f = element size): reads 2 f (f where y is shared), when normalising
once more for the extents; writes 8 bytes per segment. Everything after the loads is float64 and
added over fixed blocks in a fixed order: deterministic, the same for any K.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .declaration import In, Layers, Number, Out
from .operation import operation
from .segments import Segments


@operation(
    In("x", "K S"),
    In("y", "K S"),
    Layers("segments"),
    Number("normalize", type=bool),
    Out("out", "K L", torch.float64),
    returns="out",
    moves="x + y, twice if normalize",
)
def sensitivity(
    x: Tensor,
    y: Tensor,
    segments: Segments,
    *,
    normalize: bool,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Mean squared change from `y` to `x` of each client's segments: `[K, L]` float64.

    x          `[K, S]` or a shared row `[S]`, the weights after local training
    y          `[K, S]` or a shared row `[S]`, the weights before
    normalize  bring each segment of x and of y to [0, 1] first, each by its own extents
    out        `[K, L]` float64, contiguous; allocated if None
    NaN where the formula has no finite value: an empty segment, one whose elements are all equal
    when normalising (0 / 0), one with a non-finite element.
    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices.
    Source: FedFSA's layer scores; its text squares the change itself, its code (xxdznl/FedFSA)
    normalises first.
    """
