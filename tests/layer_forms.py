"""The layer operations in the forms that compile differently, for `aot.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from fedfast.kernels import (
    activation,
    activation_backward,
    adaptive_avg,
    adaptive_avg_backward,
    cross_entropy,
    dropout,
    embedding,
    embedding_backward,
    ghost,
    joined,
    kl_gradient,
    layer_reach,
    linear,
    linear_backward,
    log_softmax,
    log_softmax_backward,
    lowrank,
    lstm,
    lstm_backward,
    pick,
    pool,
    pool_backward,
    reach,
    sample_gaussian,
    sample_gaussian_backward,
    sum_gaussians,
)

Forms = Iterator[tuple[str, Callable[[], Any]]]
CLIENTS = 3


def linear_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """Layers of 36 and 68 features, whose rows are 16 but not 64 bytes apart, or of 33."""
    batch, inputs, outputs = (50, 36, 68) if aligned else (9, 33, 33)
    x, dx = torch.zeros(2, CLIENTS, batch, inputs, dtype=dtype)
    weight = torch.zeros(CLIENTS, outputs, inputs, dtype=dtype)
    out, dout = torch.zeros(2, CLIENTS, batch, outputs, dtype=dtype)
    bias = torch.zeros(CLIENTS, outputs, dtype=dtype)
    for precision in (
        ("fp32", "tf32x3", "tf32", "bf16") if dtype == torch.float32 and aligned else ("fp32",)
    ):
        options = dict(precision=precision, activation="tanh", backend="triton")
        yield f"linear {precision}", partial(linear, x, weight, bias, out=out, **options)
        sinks = dict(dx=dx, dweight=weight, dbias=bias)
        backward = partial(linear_backward, x, weight, out, dout, **sinks, **options)
        if precision != "tf32x3":  # three times the instructions of "tf32"
            yield f"linear_backward {precision}", backward
        if precision == "fp32" and aligned:
            squares = torch.zeros(CLIENTS, dtype=torch.float64)
            yield f"squares {precision}", partial(backward, dx=None, squares=squares)


def element_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """The longest functions."""
    x, out = torch.zeros(2, CLIENTS, 10, 36 if aligned else 33, dtype=dtype)
    for kind in ("tanh", "gelu"):
        yield f"activation {kind}", partial(activation, x, kind, out=out, backend="triton")
        backward = partial(activation_backward, x, out, out, kind, dx=out, backend="triton")
        yield f"activation_backward {kind}", backward


def loss_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """Few classes, and more than a tile holds."""
    for batch, classes in ((10, 10), (64, 1000)) if aligned else ((1, 1),):
        logits = torch.zeros(CLIENTS, batch, classes, dtype=dtype)
        targets, count = torch.zeros(CLIENTS, batch).long(), torch.ones(CLIENTS).int()
        yield (
            f"cross_entropy {classes}",
            partial(cross_entropy, logits, targets, count, backend="triton"),
        )
        divergence = partial(kl_gradient, logits, torch.zeros_like(logits), count, 3.0)
        yield f"kl_gradient {classes}", partial(divergence, backend="triton")


def gaussian_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """Three samples of each input."""
    batch, size, classes = (10, 64, 10) if aligned else (3, 33, 4)
    h, y = torch.zeros(CLIENTS, batch, 2 * size, dtype=dtype), torch.zeros(CLIENTS, batch).long()
    noise, count = torch.zeros(CLIENTS, 3 * batch, size, dtype=dtype), torch.ones(CLIENTS).int()
    given, prior = (h, noise, y, count), torch.zeros(classes, size, dtype=dtype)
    yield "sample_gaussian", partial(sample_gaussian, *given, backend="triton")
    back = h, noise, noise, y, count, prior, prior
    options = dict(beta=0.1, losses=torch.zeros(CLIENTS, dtype=dtype), backend="triton")
    yield "sample_gaussian_backward", partial(sample_gaussian_backward, *back, **options)
    sums = {n: torch.zeros(CLIENTS, classes, size, dtype=dtype) for n in ("precision", "pull")}
    yield "sum_gaussians", partial(sum_gaussians, h, y, count, **sums, backend="triton")


def pool_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """Halves, overlapping windows and nearly equal ones."""
    x = torch.zeros(CLIENTS, 2, 3, 8, 8 if aligned else 7, dtype=dtype)
    for kind, window in ("max", dict(kernel=2)), ("avg", dict(kernel=3, stride=2, padding=1)):
        out = pool(x, kind, **window)
        argmax = torch.zeros_like(out, dtype=torch.int32) if kind == "max" else None
        options = dict(argmax=argmax, backend="triton", **window)
        yield f"pool {kind}", partial(pool, x, kind, out=out, **options)
        yield f"pool_backward {kind}", partial(pool_backward, out, kind, dx=x, **options)
    tap = torch.zeros(*x.shape[:3], 4, x.shape[4] // 2, dtype=torch.uint8)
    yield "pick", partial(pick, x, kernel=2, tap=tap, backend="triton")
    out = adaptive_avg(x, 3)
    yield "adaptive_avg", partial(adaptive_avg, x, 3, out=out, backend="triton")
    backward = partial(adaptive_avg_backward, out, dx=x, backend="triton")
    yield "adaptive_avg_backward", backward


def precisions(dtype: torch.dtype) -> tuple[str, ...]:
    """Of float64 there is one."""
    return ("fp32", "tf32x3", "tf32") if dtype == torch.float32 else ("fp32",)


def lowrank_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """Norms from Gram matrices and where these cancel, and what applies them (aligned rows)."""
    x, v = (torch.zeros(CLIENTS, 12, n, dtype=dtype) for n in (36, 68))
    weight, squares = torch.zeros(CLIENTS, 68, 36, dtype=dtype), torch.zeros(CLIENTS, 3).double()
    for precision in precisions(dtype) if aligned else ():
        options = dict(ones=1.0, precision=precision, backend="triton")
        yield f"ghost {precision}", partial(ghost, x, v, **options)
        options |= dict(activation="tanh", out=v)
        yield f"lowrank {precision}", partial(lowrank, x, x, v, 0.1, base=v, **options)
    if aligned:
        given = dict(add_weight=weight, add_bias=v[:, 0].contiguous(), limit=0.5, ones=1.0)
        given |= dict(known=[squares], added=[squares[:, 1:]], backend="triton")
        yield "joined fp32", partial(joined, x, v, **given)
        out = torch.zeros(CLIENTS, dtype=dtype)
        given = [squares, squares[:, 1:]], 0.1, 0.0
        yield "reach", partial(reach, *given, out=out, backend="triton")
        rho, options = torch.zeros(CLIENTS, 20, dtype=dtype), dict(limit=10.0, backend="triton")
        yield "layer_reach", partial(layer_reach, rho, given[0], 1e-6, **options)


def dropout_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """Elements one by one, and planes."""
    x, seeds = torch.zeros(CLIENTS, 10, 36 if aligned else 33, dtype=dtype), torch.zeros(CLIENTS)
    for span in 1, x.shape[2]:
        drop = partial(dropout, x, 0.5, seeds.long(), 1, span=span, out=x, backend="triton")
        yield f"dropout {'planes' if span > 1 else 'elements'}", drop


def softmax_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """More classes than a tile holds, and one."""
    x = torch.zeros(CLIENTS, 64, 1000 if aligned else 1, dtype=dtype)
    yield "log_softmax", partial(log_softmax, x, out=x, backend="triton")
    yield "log_softmax_backward", partial(log_softmax_backward, x, x, dx=x, backend="triton")


def embedding_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """Vectors of more numbers than a tile holds, and short ones; a folded step in place."""
    token = torch.zeros(CLIENTS, 4, 20, dtype=torch.int64)
    weight = torch.zeros(CLIENTS, 80, 100 if aligned else 9, dtype=dtype)
    out = torch.zeros(*token.shape, weight.shape[2], dtype=dtype)
    yield "embedding", partial(embedding, token, weight, out=out, backend="triton")
    backward = partial(embedding_backward, token, out, dweight=weight, backend="triton")
    yield "embedding_backward", backward


def lstm_forms(dtype: torch.dtype, aligned: bool) -> Forms:
    """Two steps, the first and the last; the products around them are `linear`'s."""
    batch, inputs, hidden = (20, 8, 36) if aligned else (3, 5, 9)
    x = torch.zeros(CLIENTS, batch, 2, inputs, dtype=dtype)
    cells, out, dout = torch.zeros(3, CLIENTS, batch, 2, hidden, dtype=dtype)
    gates = torch.zeros(CLIENTS, batch, 2, 4 * hidden, dtype=dtype)
    wide = CLIENTS, 4 * hidden
    w_ih, w_hh = (torch.zeros(*wide, n, dtype=dtype) for n in (inputs, hidden))
    b_ih, b_hh = torch.zeros(2, *wide, dtype=dtype)
    sinks = dict(dweight_ih=w_ih, dweight_hh=w_hh)
    for precision in precisions(dtype) if aligned else ("fp32",):
        options = dict(precision=precision, backend="triton")
        given = (x, w_ih, w_hh, b_ih, b_hh)
        forward = partial(lstm, *given, gates=gates, cells=cells, out=out, **options)
        yield f"lstm {precision}", forward
        given = (x, w_ih, w_hh, gates, cells, out, dout)
        backward = partial(lstm_backward, *given, **sinks, **options)
        yield f"lstm_backward {precision}", backward


SEQUENCES = dropout_forms, softmax_forms, embedding_forms, lstm_forms


def every(dtype: torch.dtype, aligned: bool) -> Forms:
    """(name, call) of every layer operation; `aligned`: rows are multiples of 16 bytes."""
    batches = loss_forms, gaussian_forms, pool_forms
    for forms in (linear_forms, element_forms, *batches, lowrank_forms, *SEQUENCES):
        yield from forms(dtype, aligned)
