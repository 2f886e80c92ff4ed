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

from . import native_sequences
from ._blocks import floating, integers, written
from .reference import dropout as reference
from .registry import dispatch
from .triton import dropout as triton

WORDS = 1 << 32


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
    x = floating("x", x, "K, ...")
    seeds = integers("seeds", seeds, x.shape[:1], torch.int64, x)
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected a share in [0, 1]; got {p}")
    if not 0 <= layer < WORDS:
        raise ValueError(f"layer: expected 0 <= layer < 2^32; got {layer}")
    if span < 1 or x.shape[1:].numel() % span:
        raise ValueError(f"span: expected a divisor of {x.shape[1:].numel()}; got {span}")
    out = written("out", out, x.shape, x)
    threshold, scale = round(float(p) * WORDS), 0.0 if p == 1 else 1 / (1 - float(p))
    numbers = int(layer), threshold, scale, int(span)  # Triton binds no NumPy scalars
    return dispatch(_VOICES, backend, x, x, seeds, *numbers, out)


_VOICES = {
    "reference": reference.dropout,
    "native": native_sequences.dropout,
    "triton": triton.dropout,
}
