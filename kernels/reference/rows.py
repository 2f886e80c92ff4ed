"""The meaning of every operation, in plain torch: the specification the other voices are held to.

No tricks: whole-tensor expressions, any floating dtype (float64 in tests), any device. Arguments
arrive normalised by the public function of the same name: operands are `[K, S]` (a shared row has
stride 0), per-client scalars are `[K]`, radii are `[K, 1]` or `[K, L]`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..segments import Segments

Terms = Sequence[tuple[Tensor, Tensor]]


def combine(terms: Terms) -> Tensor:
    """`sum_j c_j * d_j` in the order given. terms: (d [K, S], c [K]) -> [K, S]."""
    total = terms[0][1][:, None] * terms[0][0]
    for buffer, coef in terms[1:]:
        total = total + coef[:, None] * buffer
    return total


def norm_of(x: Tensor) -> Tensor:
    """Euclidean norm of each row, summed in float64. x: [K, S] -> [K] float64."""
    return x.double().square().sum(dim=1).sqrt()


def spread(per_layer: Tensor, segments: Segments | None, size: int, fill: float) -> Tensor:
    """Values per segment laid out over the row, `fill` in the padding. [K, 1|L] -> [K, 1|S]."""
    if segments is None:
        return per_layer
    row = per_layer.new_full((per_layer.shape[0], size), fill)
    for layer, (start, stop) in enumerate(segments.spans):
        row[:, start:stop] = per_layer[:, layer : layer + 1]
    return row


def perturb(
    w: Tensor,
    terms: Terms,
    rho: Tensor,
    alpha: Tensor,
    eps: float,
    adaptive: float | None,
    norm: Tensor | None,
    segments: Segments | None,
    out: Tensor,
) -> Tensor:
    """`out = w + (rho / (|t a| + eps) - alpha) * t^2 * a`, see `kernels.perturb`."""
    size = w.shape[1]
    a = combine(terms)
    t = torch.ones_like(w)
    if adaptive is not None:
        weights = torch.ones(1, 1) if segments is None else segments.is_weight[None].to(w.dtype)
        on = spread(weights.to(w), segments, size, 0.0)
        t = torch.where(on > 0, w.abs() + adaptive, t)
    length = norm_of(t * a) if norm is None else norm.double()
    scale = rho.double() / (length[:, None] + eps) - alpha.double()[:, None]
    layered = segments if rho.shape[1] > 1 else None
    return out.copy_(w + spread(scale, layered, size, 0.0).to(w.dtype) * (t * t * a))


def step(
    w: Tensor,
    terms: Terms,
    eta: Tensor,
    w_ref: Tensor | None,
    lam: Tensor,
    weight_decay: Tensor,
    clip_norm: Tensor | None,
    momentum: Tensor,
    nesterov: bool,
    m: Tensor | None,
    out: Tensor,
    squares: Tensor | None,
) -> Tensor:
    """`out = w - eta * (clip(sum_j c_j d_j + lam (w - w_ref)) + weight_decay w)`."""
    d = combine(terms)
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


def stats(
    x: Tensor,
    y: Tensor | None,
    x_ref: Tensor | None,
    y_ref: Tensor | None,
    segments: Segments,
    out: Tensor,
) -> Tensor:
    """Per client and segment: sums of xx, xy, yy, |xy| and the count of non-finite elements."""
    a = (x if x_ref is None else x - x_ref).double()
    b = torch.zeros_like(a) if y is None else (y if y_ref is None else y - y_ref).double()
    bad = ~(a.isfinite() & b.isfinite())
    columns = (a * a, a * b, b * b, (a * b).abs(), bad.double())
    for layer, (start, stop) in enumerate(segments.spans):
        for column, values in enumerate(columns):
            out[:, layer, column] = values[:, start:stop].sum(dim=1)
    return out


def aggregate(
    rows: Tensor,
    weights: Tensor,
    base: Tensor,
    acc: Tensor,
    first: bool,
    rule: str | None,
    scalars: tuple[float, float, float, float],
    w: Tensor | None,
    m: Tensor | None,
    v: Tensor | None,
    out: Tensor | None,
    squares: Tensor,
) -> None:
    """`acc (+)= sum_k a_k (rows_k - base_k)`, then the server rule, see `kernels.aggregate`."""
    if first:
        acc.zero_()
    for k in range(rows.shape[0]):
        update = rows[k].double() - base[k].double()
        squares[k] = update.square().sum()
        acc += weights[k].double() * update
    if rule is None or w is None or out is None:
        return
    squares[-1] = acc.square().sum()
    out.copy_(w.double() + server_direction(acc, rule, scalars, m, v))


def server_direction(
    mean: Tensor,
    rule: str,
    scalars: tuple[float, float, float, float],
    m: Tensor | None,
    v: Tensor | None,
) -> Tensor:
    """What the server adds to its model; `m`, `v` change in place. mean: [S] float64 -> same."""
    lr, beta1, beta2, tau = scalars
    if rule == "average" or m is None:
        return lr * mean
    if rule == "momentum":
        return lr * m.copy_(beta1 * m.double() + mean).double()
    assert v is not None
    square, old = mean.square(), v.double()
    v.copy_(
        {
            "adagrad": old + square,
            "adam": beta2 * old + (1 - beta2) * square,
            "yogi": old - (1 - beta2) * square * torch.sign(old - square),
        }[rule]
    )
    m.copy_(beta1 * m.double() + (1 - beta1) * mean)
    return lr * m.double() / (v.double().sqrt() + tau)


def mix(x: Tensor, y: Tensor, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """`out = a x + b y`, see `kernels.mix`."""
    return out.copy_(a[:, None] * x + b[:, None] * y)


def gram(rows: Tensor, base: Tensor | None, segments: Segments, out: Tensor) -> Tensor:
    """`out[l] = d d^T` over segment l of `d = rows - base`, see `kernels.gram`."""
    d = (rows if base is None else rows - base).double()
    for layer, (start, stop) in enumerate(segments.spans):
        products = d[:, start:stop] @ d[:, start:stop].T
        out[layer] = products.tril() + products.tril(-1).T  # symmetric to the bit
    return out


def sensitivity(x: Tensor, y: Tensor, segments: Segments, normalize: bool, out: Tensor) -> Tensor:
    """Mean squared change of each client's segments, see `kernels.sensitivity`."""
    n = unit_range if normalize else Tensor.double
    for layer, (start, stop) in enumerate(segments.spans):
        change = n(x[:, start:stop]) - n(y[:, start:stop])
        out[:, layer] = change.square().mean(dim=1)
    return out.masked_fill_(~out.isfinite(), torch.nan)


def unit_range(v: Tensor) -> Tensor:
    """`(v - min v) / (max v - min v)` of each row in float64; nothing for nothing. [K, n]."""
    wide = v.double()
    if not v.shape[1]:
        return wide
    low, high = wide.amin(dim=1, keepdim=True), wide.amax(dim=1, keepdim=True)
    return (wide - low) / (high - low)
