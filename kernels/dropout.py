"""`dropout`: elements dropped by counter-based random numbers; the same call takes gradients back.

    word(e) = Philox4x32-10(counter = (e / 4, 0, layer, 0), key = seeds[k])[e mod 4]
    out[e]  = 0 if word(e // span) < round(p 2^32) else x[e] / (1 - p)

No mask is kept: the backward pass is `dropout` of the gradient with the same seeds, which makes the
same mask anew. An element's fate depends on (seed of its client, layer, its place) alone.
Bytes per element (f = element size): reads f, writes f. Operations: about 20 per element.
Deterministic: element-wise.
Source: Srivastava et al. 2014, "Dropout"; Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3" (Philox).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._scalars import integer, number
from .declaration import Argument, In, Made, Out
from .operation import operation

WORDS = 1 << 32


def _share(name: str, p: float) -> float:
    p = number(name, p)
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: expected a share in [0, 1]; got {p}")
    return p


def _layer(name: str, layer: int) -> int:
    return integer(name, layer, 0, WORDS - 1)


def _threshold(p: float) -> int:
    return round(p * WORDS)


def _scale(p: float) -> float:
    return 0.0 if p == 1 else 1 / (1 - p)


def _span(name: str, span: int, x: Tensor) -> int:
    span, size = integer(name, span, 1), x.shape[1:].numel()
    if size % span:
        raise ValueError(f"{name}: expected a divisor of {size}; got {span}")
    return span


@operation(
    In("x", "K ..."),
    In("seeds", "K", torch.int64),
    Argument("p", check=_share, passed=False),
    Argument("layer", check=_layer),
    Made("threshold", check=_threshold, using="p"),
    Made("scale", check=_scale, using="p"),
    Argument("span", check=_span, using="x"),
    Out("out", "K ...", may="x"),
    returns="out",
    moves="x + out",
)
def dropout(
    x: Tensor,
    p: float,
    seeds: Tensor,
    layer: int = 0,
    *,
    span: int = 1,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return x with about a share p of its elements 0 and the others divided by 1 - p.

    x      `[K, ...]`, each client's part contiguous
    p      in [0, 1]
    seeds  `[K]` int64, one per client and step
    layer  which of a model's dropouts, in [0, 2^32)
    span   neighbours dropped together, e.g. H W for whole channels; divides a client's size
    out    as x; may be x; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
