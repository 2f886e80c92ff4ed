"""`batch_norm` and `batch_norm_backward`: channels by each client's own samples.

    n = (x - mean) rstd,  rstd = 1 / sqrt(var + eps),  out = n w + b
    dx = rstd (w dout - mean(w dout) - n mean(w dout n)),  means over a channel's samples
    dw = beta w0 + alpha sum dout n,  db = beta b0 + alpha sum dout

Operations of a client: about 5 per element forward, 8 backward. Bytes (f = element size): x is read
three times forward (f each where it does not stay in a cache) and out written once; backward reads
x and dout twice and writes dx.
Deterministic: a client's sums are float64 lanes, over numbers in a fixed order.
Source: Ioffe & Szegedy 2015; running statistics by torch's rule.
"""

from __future__ import annotations

from torch import Tensor

from . import native_images
from ._args import Coefficient
from ._blocks import floating, written
from ._images import counts, sinks
from ._norm_args import Normed, affine, gradients_of, results_of
from .reference import batch_norm as reference
from .registry import dispatch
from .triton import batch_norm as triton
from .triton import batch_norm_backward as triton_backward


def batch_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    count: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    out: Tensor | None = None,
    mean: Tensor | None = None,
    rstd: Tensor | None = None,
    backend: str = "auto",
) -> Normed:
    """Return `out`, `mean`, `rstd`: channels by their statistics over a client's own samples.

    x             `[K, B, C, ...]`
    weight, bias  `[K, C]`, `[C]` or None
    running_mean, running_var   `[K, C]`, moved in place by `momentum` towards the batch's mean and
                  unbiased variance when training (one number has variance 0), read when not
    count         `[K]` integers: only the first count samples enter the statistics; all if None.
                  Samples beyond are normalised by the same numbers. A client without samples
                  keeps its running statistics
    training      by the batch's statistics; else by the running ones
    out           as x; mean, rstd `[K, C]`, for the backward; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, C, ...")
    shape = (x.shape[0], x.shape[2])
    weight, bias = affine(x, weight, bias, shape)
    running = _running(x, running_mean, running_var, shape)
    if not training and running is None:
        raise ValueError("running_mean: expected running statistics when not training; got None")
    results = results_of(x, out, mean, rstd, shape)
    args = (x, weight, bias, running, counts(count, x), training, momentum, eps, *results)
    dispatch(_BATCH, backend, x, *args)
    return results


def batch_norm_backward(
    x: Tensor,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    *,
    count: Tensor | None = None,
    training: bool = True,
    dx: Tensor | None = None,
    dweight: Tensor | None = None,
    dbias: Tensor | None = None,
    alpha: Coefficient = 1.0,
    beta: Coefficient = 0.0,
    base_weight: Tensor | None = None,
    base_bias: Tensor | None = None,
    backend: str = "auto",
) -> None:
    """Write the gradients of `batch_norm`: dx, then dweight and dbias, each if wanted.

    dout             `[K, B, C, ...]`; samples beyond count are not read, their dx is 0
    mean, rstd       `[K, C]`, as `batch_norm` left them
    dweight, dbias   `[K, C]`: `beta * base + alpha * gradient`; bases default to them
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, C, ...")
    shape = (x.shape[0], x.shape[2])
    given = gradients_of(x, weight, dout, mean, rstd, shape, shape)
    dx = None if dx is None else written("dx", dx, x.shape, x)
    bases = (base_weight, base_bias)
    to = (dx, *sinks(x, shape, dweight, dbias, shape, (alpha, beta), bases))
    dispatch(_BATCH_BACKWARD, backend, x, x, *given, counts(count, x), training, *to)


def _running(
    x: Tensor, mean: Tensor | None, var: Tensor | None, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor] | None:
    if (mean is None) != (var is None):
        raise ValueError("running_var: expected together with running_mean, or neither")
    if mean is None or var is None:
        return None
    return written("running_mean", mean, shape, x), written("running_var", var, shape, x)


_BATCH = {
    "reference": reference.batch_norm,
    "native": native_images.batch_norm,
    "triton": triton.batch_norm,
}
_BATCH_BACKWARD = {
    "reference": reference.batch_norm_backward,
    "native": native_images.batch_norm_backward,
    "triton": triton_backward.batch_norm_backward,
}
