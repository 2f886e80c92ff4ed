"""`sensitivity`: how much each layer of each client changed, as a mean of squares.

    out[k, l] = mean over segment l of (n(x_k) - n(y_k))^2
    n(v) = (v - min v) / (max v - min v) over the segment when `normalize`, else v

Bytes per element of a client (f = element size): reads 2 f (f where y is shared), when normalising
once more for the extents; writes 8 bytes per segment. Everything after the loads is float64 and
added over fixed blocks in a fixed order: deterministic, the same for any K.
"""

from __future__ import annotations

from torch import Tensor

from . import native
from ._args import bank_like, output64, within
from ._args import rows as as_rows
from .reference import sensitivity as reference
from .registry import dispatch
from .segments import Segments
from .triton import sensitivity as triton


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
    x = bank_like("x", x, [y])
    before = as_rows("y", y, x)
    table = within(segments, x)
    out = output64("out", out, (x.shape[0], table.count), x)
    return dispatch(_VOICES, backend, x, x, before, table, normalize, out)


_VOICES = {
    "reference": reference.sensitivity,
    "native": native.sensitivity,
    "triton": triton.sensitivity,
}
