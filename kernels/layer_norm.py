"""`layer_norm` and `layer_norm_backward`: rows over their last dimensions, as one group each.

Formulas, cost and determinism are `group_norm`'s.
Source: Ba et al. 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from ._args import Coefficient
from ._blocks import block, floating, written
from .batch_norm import Normed
from .group_norm import group_norm, group_norm_backward


def layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    out: Tensor | None = None,
    mean: Tensor | None = None,
    rstd: Tensor | None = None,
    backend: str = "auto",
) -> Normed:
    """Return `out`, `mean`, `rstd`: x `[K, B, ..., *shape]` over its last dimensions `shape`.

    weight, bias  `[K, *shape]`, `[*shape]` or None
    out           as x; mean, rstd `[K, rows]`, one for each element of B, ...; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
    rows, size = _rows("x", x, shape)
    weight, bias = (_flat_weight(n, w, shape, x) for n, w in (("weight", weight), ("bias", bias)))
    out = written("out", out, x.shape, x)
    mean, rstd = (
        written(name, value, rows.shape[:2], x) for name, value in (("mean", mean), ("rstd", rstd))
    )
    flat = dict(out=out.view(rows.shape), mean=mean[..., None], rstd=rstd[..., None])
    group_norm(rows, 1, weight, bias, eps=eps, backend=backend, **flat)
    return out, mean, rstd


def layer_norm_backward(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    *,
    dx: Tensor | None = None,
    dweight: Tensor | None = None,
    dbias: Tensor | None = None,
    alpha: Coefficient = 1.0,
    beta: Coefficient = 0.0,
    base_weight: Tensor | None = None,
    base_bias: Tensor | None = None,
    backend: str = "auto",
) -> None:
    """Write the gradients of `layer_norm`; as `group_norm_backward`, mean and rstd `[K, rows]`."""
    rows, size = _rows("x", x, shape)
    tensors = dict(dweight=dweight, dbias=dbias, base_weight=base_weight, base_bias=base_bias)
    group_norm_backward(
        rows,
        1,
        _flat_weight("weight", weight, shape, x),
        block("dout", dout, x.shape, x).view(rows.shape),
        block("mean", mean, rows.shape[:2], x)[..., None],
        block("rstd", rstd, rows.shape[:2], x)[..., None],
        dx=None if dx is None else written("dx", dx, x.shape, x).view(rows.shape),
        alpha=alpha,
        beta=beta,
        backend=backend,
        **{name: _flat_weight(name, value, shape, x) for name, value in tensors.items()},
    )


def _rows(name: str, x: Tensor, shape: Sequence[int]) -> tuple[Tensor, int]:
    """x as `[K, rows, size]`."""
    x, size = floating(name, x, "K, B, ..."), prod(shape)
    if x.ndim < len(shape) + 2 or tuple(x.shape[-len(shape) :]) != tuple(shape):
        raise ValueError(
            f"shape: expected the last dimensions of {name} {list(x.shape)}; got {list(shape)}"
        )
    return x.view(x.shape[0], -1, size) if x.numel() else x.view(x.shape[0], 0, size), size


def _flat_weight(name: str, value: Tensor | None, shape: Sequence[int], x: Tensor) -> Tensor | None:
    if value is None:
        return None
    return block(name, value, (x.shape[0], *shape), x).flatten(1)
