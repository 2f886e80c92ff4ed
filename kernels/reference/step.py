"""`step` in plain torch."""

from __future__ import annotations

from torch import Tensor

from ..placed import RowsLike, dense
from .common import Terms, combine, norm_of


def step(
    w: RowsLike,
    terms: Terms,
    eta: Tensor,
    w_ref: Tensor | None,
    lam: Tensor,
    weight_decay: Tensor,
    clip_norm: Tensor | None,
    momentum: Tensor,
    nesterov: bool,
    m: Tensor | None,
    out: RowsLike,
    squares: Tensor | None,
) -> RowsLike:
    """`out = w - eta * (clip(sum_j c_j d_j + lam (w - w_ref)) + weight_decay w)`."""
    w, d = dense(w), combine(terms)
    if w_ref is not None:
        d = d + lam[:, None] * (w - w_ref)
    if clip_norm is not None:
        d = clipped(clip_norm, norm_of(d) if squares is None else squares.sum(1).sqrt(), w) * d
    v = d + weight_decay[:, None] * w
    if m is not None:
        m.copy_(momentum[:, None] * m + v)
        v = v + momentum[:, None] * m if nesterov else m
    return out.copy_(w - eta[:, None] * v)


def clipped(clip_norm: Tensor, norm: Tensor, w: Tensor) -> Tensor:
    """What a clip makes of rows of these norms, `[K, 1]`: a factor of at most 1."""
    return (clip_norm.double() / (norm + 1e-6)).clamp(max=1.0)[:, None].to(w.dtype)
