"""`group_norm` and `group_norm_backward`: each sample's groups of channels by themselves.

    n = (x - mean) rstd,  rstd = 1 / sqrt(var + eps),  out = n w + b
    dx = rstd (w dout - mean(w dout) - n mean(w dout n)),  means over a group
    dw = beta w0 + alpha sum dout n,  db = beta b0 + alpha sum dout

Operations of a client: about 5 per element forward, 8 backward. Bytes (f = element size): x is read
three times forward (f each where it does not stay in a cache) and out written once; backward reads
x and dout twice and writes dx.
Deterministic: a client's sums are float64 lanes, over numbers in a fixed order.
Source: Wu & He 2018.
"""

from __future__ import annotations

from torch import Tensor

from . import native_images
from ._args import Coefficient
from ._blocks import floating, written
from ._images import divides, number, sinks
from ._norm_args import Normed, affine, gradients_of, results_of
from .reference import group_norm as reference
from .registry import dispatch
from .triton import group_norm as triton
from .triton import group_norm_backward as triton_backward


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    out: Tensor | None = None,
    mean: Tensor | None = None,
    rstd: Tensor | None = None,
    backend: str = "auto",
) -> Normed:
    """Return `out`, `mean`, `rstd`: each sample's groups of channels by their own statistics.

    x             `[K, B, C, ...]`; C is a multiple of groups
    weight, bias  `[K, C]`, `[C]` or None
    out           as x; mean, rstd `[K, B, groups]`, for the backward; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, C, ...")
    divides("groups", number("groups", groups, 1), "channels", x.shape[2])
    weight, bias = affine(x, weight, bias, (x.shape[0], x.shape[2]))
    results = results_of(x, out, mean, rstd, (*x.shape[:2], groups))
    dispatch(_GROUP, backend, x, x, groups, weight, bias, eps, *results)
    return results


def group_norm_backward(
    x: Tensor,
    groups: int,
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
    """Write the gradients of `group_norm`: dx, then dweight and dbias, each if wanted.

    A sample whose dout is 0 gets dx 0 and adds nothing: ragged batches need no count.
    Otherwise as `batch_norm_backward`, with mean and rstd `[K, B, groups]`.
    """
    x = floating("x", x, "K, B, C, ...")
    divides("groups", number("groups", groups, 1), "channels", x.shape[2])
    shape = (x.shape[0], x.shape[2])
    given = gradients_of(x, weight, dout, mean, rstd, shape, (*x.shape[:2], groups))
    dx = None if dx is None else written("dx", dx, x.shape, x)
    bases = (base_weight, base_bias)
    to = (dx, *sinks(x, shape, dweight, dbias, shape, (alpha, beta), bases))
    dispatch(_GROUP_BACKWARD, backend, x, x, groups, *given, *to)


_GROUP = {
    "reference": reference.group_norm,
    "native": native_images.group_norm,
    "triton": triton.group_norm,
}
_GROUP_BACKWARD = {
    "reference": reference.group_norm_backward,
    "native": native_images.group_norm_backward,
    "triton": triton_backward.group_norm_backward,
}
