"""`batch_norm`, `group_norm`, `layer_norm` and their backwards, each client by its own numbers.

    n = (x - mean) rstd,  rstd = 1 / sqrt(var + eps),  out = n w + b
    dx = rstd (w dout - mean(w dout) - n mean(w dout n)),  means over what was normalised together
    dw = beta w0 + alpha sum dout n,  db = beta b0 + alpha sum dout

Operations of a client: about 5 per element forward, 8 backward. Bytes (f = element size): x is read
three times forward (f each where it does not stay in a cache) and out written once; backward reads
x and dout twice and writes dx.
Deterministic: a client is one thread's work; sums are float64, over 16 lanes in a fixed order.
Source: Ioffe & Szegedy 2015 (batch), Wu & He 2018 (group), Ba et al. 2016 (layer); running
statistics by torch's rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from . import _native_images, reference_images
from ._args import Coefficient
from ._blocks import block, floating, no_triton, written
from ._images import counts, divides, number, sinks
from ._launch import speak

Normed = tuple[Tensor, Tensor, Tensor]


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
    Raises TypeError/ValueError naming the argument, RuntimeError on CUDA (no Triton voice yet).
    """
    x = floating("x", x, "K, B, C, ...")
    shape = (x.shape[0], x.shape[2])
    weight, bias = _affine(x, weight, bias, shape)
    running = _running(x, running_mean, running_var, shape)
    if not training and running is None:
        raise ValueError("running_mean: expected running statistics when not training; got None")
    results = _results(x, out, mean, rstd, shape)
    args = (x, weight, bias, running, counts(count, x), training, momentum, eps, *results)
    speak(_BATCH, backend, x, *args)
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
    Raises TypeError/ValueError naming the argument, RuntimeError on CUDA (no Triton voice yet).
    """
    x = floating("x", x, "K, B, C, ...")
    shape = (x.shape[0], x.shape[2])
    given = _given(x, weight, dout, mean, rstd, shape, shape)
    dx = None if dx is None else written("dx", dx, x.shape, x)
    bases = (base_weight, base_bias)
    to = (dx, *sinks(x, shape, dweight, dbias, shape, (alpha, beta), bases))
    speak(_BATCH_BACKWARD, backend, x, x, *given, counts(count, x), training, *to)


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
    Raises TypeError/ValueError naming the argument, RuntimeError on CUDA (no Triton voice yet).
    """
    x = floating("x", x, "K, B, C, ...")
    divides("groups", number("groups", groups, 1), "channels", x.shape[2])
    weight, bias = _affine(x, weight, bias, (x.shape[0], x.shape[2]))
    results = _results(x, out, mean, rstd, (*x.shape[:2], groups))
    speak(_GROUP, backend, x, x, groups, weight, bias, eps, *results)
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
    given = _given(x, weight, dout, mean, rstd, shape, (*x.shape[:2], groups))
    dx = None if dx is None else written("dx", dx, x.shape, x)
    bases = (base_weight, base_bias)
    to = (dx, *sinks(x, shape, dweight, dbias, shape, (alpha, beta), bases))
    speak(_GROUP_BACKWARD, backend, x, x, groups, *given, *to)


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
    Raises TypeError/ValueError naming the argument, RuntimeError on CUDA (no Triton voice yet).
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


def _affine(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]
) -> tuple[Tensor | None, Tensor | None]:
    weight = None if weight is None else block("weight", weight, shape, x)
    return weight, None if bias is None else block("bias", bias, shape, x)


def _running(
    x: Tensor, mean: Tensor | None, var: Tensor | None, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor] | None:
    if (mean is None) != (var is None):
        raise ValueError("running_var: expected together with running_mean, or neither")
    if mean is None or var is None:
        return None
    return written("running_mean", mean, shape, x), written("running_var", var, shape, x)


def _results(
    x: Tensor,
    out: Tensor | None,
    mean: Tensor | None,
    rstd: Tensor | None,
    shape: tuple[int, ...],
) -> Normed:
    statistics = written("mean", mean, shape, x), written("rstd", rstd, shape, x)
    return written("out", out, x.shape, x), *statistics


def _given(
    x: Tensor,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight_shape: tuple[int, ...],
    shape: tuple[int, ...],
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    return (
        None if weight is None else block("weight", weight, weight_shape, x),
        block("dout", dout, x.shape, x),
        block("mean", mean, shape, x),
        block("rstd", rstd, shape, x),
    )


_BATCH = {
    "reference": reference_images.batch_norm,
    "native": _native_images.batch_norm,
    "triton": no_triton("batch_norm"),
}
_BATCH_BACKWARD = {
    "reference": reference_images.batch_norm_backward,
    "native": _native_images.batch_norm_backward,
    "triton": no_triton("batch_norm_backward"),
}
_GROUP = {
    "reference": reference_images.group_norm,
    "native": _native_images.group_norm,
    "triton": no_triton("group_norm"),
}
_GROUP_BACKWARD = {
    "reference": reference_images.group_norm_backward,
    "native": _native_images.group_norm_backward,
    "triton": no_triton("group_norm_backward"),
}
