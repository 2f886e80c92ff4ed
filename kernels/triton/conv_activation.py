"""From dout to dz: the activation's derivative, and the gradient of the bias on the way.

One program per client and channel adds its pixels in lanes over fixed blocks.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .functions import differentiate
from .sums import Squares, store_squares
from .tiles import fold, multiple, unit

BLOCK, WARPS = 1024, 4


def through(
    out: Tensor,
    dout: Tensor,
    activation: str | None,
    dbias: Tensor | None,
    base: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    partial: Squares,
) -> None:
    """partial  slots for as many squares as there are channels, where there is a dbias"""
    clients, batch, channels, *sides = out.shape
    places = sides[0] * sides[1]
    sinks = tuple(0 if t is None else t.stride(0) for t in (dbias, base))
    launch(
        _slope,
        clients * channels,
        out,
        *(out, dout, dbias, base, alpha, beta, tuple(partial)),
        (out.stride(0), dout.stride(0), *sinks),
        *(channels, places, batch),
        UNIT=min(unit(t, places) for t in (out, dout)),
        KIND=activation,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )


@jit
def _slope(
    out: tl.tensor,  # [K, B, O, places]
    dout: tl.tensor,  # [K, B, O, places], multiplied in place by act'(out)
    to: tl.tensor,  # [K, O] or None: beta base + alpha sum dz
    base: tl.tensor,  # [K, O]
    alpha: tl.tensor,  # [K]
    beta: tl.tensor,  # [K]
    partial: tl.tuple,  # see `store_squares`
    strides: tl.tuple,  # over K, of the first four
    channels: tl.tensor,
    places: tl.tensor,
    batch: tl.tensor,
    UNIT: tl.constexpr,  # see `unit`, for runs of places
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per client and channel: dz, and its sum for the bias."""
    places = multiple(places, UNIT)
    pixels = batch * places
    channel = tl.program_id(0) % channels
    k = (tl.program_id(0) // channels).to(tl.int64)
    sums = tl.zeros((BLOCK,), out.dtype.element_ty)
    for start in range(0, pixels, BLOCK):
        p = start + tl.arange(0, BLOCK)
        at = ((p // places).to(tl.int64) * channels + channel) * places + p % places
        dz = tl.load(dout + k * strides[1] + at, p < pixels, other=0.0)
        if KIND is not None:
            after = tl.load(out + k * strides[0] + at, p < pixels, other=0.0)
            dz = differentiate(after, after, dz, 0.0, KIND)
            tl.store(dout + k * strides[1] + at, dz, p < pixels)
        sums += dz
    if to is not None:
        here = base + k * strides[3] + channel
        own = fold(tl.sum(sums, axis=0), here, channel >= 0, tl.load(alpha + k), tl.load(beta + k))
        store_squares(partial, k, channel, own + tl.zeros((1,), own.dtype), channel >= 0)
        tl.store(to + k * strides[2] + channel, own)
