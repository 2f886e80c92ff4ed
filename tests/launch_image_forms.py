"""Every operation on images with every optional argument, for `launches.py`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from fedfast.kernels import (
    adaptive_avg,
    adaptive_avg_backward,
    batch_norm,
    batch_norm_backward,
    conv,
    conv_backward,
    conv_pool,
    conv_pool_backward,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
    pick,
    pool,
    pool_backward,
)
from fedfast.kernels.linear import FUSED
from launch_forms import Forms, Make, named
from launch_layer_forms import precisions, scales
from torch import Tensor

# image, weight, geometry
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "padded": ((16, 8, 8), (40, 16, 3, 3), dict(padding=1)),
    "pointwise": ((16, 8, 8), (40, 16, 1, 1), dict()),
    "strided": ((16, 9, 8), (24, 16, 3, 2), dict(stride=(2, 3), padding=(1, 0))),
    "dilated": ((4, 9, 9), (24, 4, 3, 3), dict(dilation=2, stride=2, padding=2)),
    "grouped": ((8, 8, 8), (48, 4, 3, 3), dict(groups=2, padding=1)),
    "depthwise": ((6, 8, 8), (6, 1, 3, 3), dict(groups=6, padding=1)),
}
Layer = tuple[Tensor, Tensor, Tensor, dict[str, Any]]


def layers(make: Make) -> Iterator[Layer]:
    """(x, weight, bias, geometry); where sizes are 1, one layer is left."""
    for image, kernel, geometry in list(LAYERS.values())[1 if make.ones else 0 :]:
        yield make(3, 4, *image), make(3, *kernel), make(3, kernel[0]), geometry
        if make.ones:  # and one whose terms are taken tap by tap: there are 16 channels at least
            x, weight = torch.zeros(2, 1, 1, 16, 2, 2, dtype=make.dtype)
            yield x, weight, make(1, 1), {}
            return


def planes(x: Tensor, weight: Tensor, geometry: dict[str, Any]) -> list[int]:
    """Sides of the results, as torch has them."""
    one = torch.nn.functional.conv2d(x[0, :1], weight[0], **geometry)
    return [one.shape[2], one.shape[3]]


def conv_forms(make: Make) -> Forms:
    """Every geometry plainly, the first one with every option."""
    for index, (x, weight, bias, geometry) in enumerate(layers(make)):
        sides = planes(x, weight, geometry)
        out, dout = (make(3, 4, weight.shape[1], *sides) for _ in range(2))
        every = product(precisions(make), FUSED) if index == 0 else [("fp32", "relu")]
        squares = make.dense(3, dtype=torch.float64)
        for precision, kind in every:
            options = dict(precision=precision, activation=kind, **geometry)
            yield named(conv, x, weight, bias, **options)
            yield named(conv, x, weight, None, **options)
            given = x, weight, out, dout
            yield named(conv_backward, *given, dweight=weight, squares=squares, **options)
            for sinks in scales(make, dict(dweight=weight, dbias=bias)):
                yield named(conv_backward, *given, dx=x, squares=squares, **sinks, **options)


def pooled_forms(make: Make) -> Forms:
    """The same with windows of one, four and six elements over the results."""
    windows: list[Any] = [1] if make.ones else [2, (2, 3)]
    for index, (x, weight, bias, geometry) in enumerate(layers(make)):
        for window in windows if index == 0 else windows[:1]:
            pair = (window, window) if isinstance(window, int) else window
            places = planes(x, weight, geometry)
            sides = [n // w for n, w in zip(places, pair, strict=True)]
            out, dout = (make(3, 4, weight.shape[1], *sides) for _ in range(2))
            tap = make.dense(3, 4, weight.shape[1], *sides, dtype=torch.uint8)
            every = product(precisions(make), FUSED) if index == 0 else [("fp32", "relu")]
            for precision, kind in every:
                options = dict(precision=precision, activation=kind, kernel=window, **geometry)
                yield named(conv_pool, x, weight, bias, tap=tap, **options)
                yield named(pick, make(3, 4, weight.shape[1], *places), kernel=window, tap=tap)
                given = x, weight, out, tap, dout
                yield named(conv_pool_backward, *given, dweight=weight, **options)
                for sinks in scales(make, dict(dweight=weight, dbias=bias)):
                    yield named(conv_pool_backward, *given, dx=x, **sinks, **options)


def batch_norm_forms(make: Make) -> Forms:
    """With and without the affine part and running statistics, in training and evaluation."""
    x, dout = make(3, 4, 32, 7, 7), make(3, 4, 32, 7, 7)
    weight, bias, mean, rstd = (make(3, 32) for _ in range(4))
    running = dict(running_mean=mean, running_var=rstd)
    count = make.dense(3, dtype=torch.int32)
    for affine, training in product(((weight, bias), (None, None)), (True, False)):
        kept = dict(training=training, count=count)
        for own in (running, *([dict()] if training else [])):
            yield named(batch_norm, x, *affine, **own, **kept, momentum=0.2, eps=1e-3)
            yield named(batch_norm, x, *affine, **own, **kept, momentum=1, eps=0)
        given = x, affine[0], dout, mean, rstd
        yield named(batch_norm_backward, *given, dx=x, **kept)
        for sinks in scales(make, dict(dweight=weight, dbias=bias)):
            yield named(batch_norm_backward, *given, dx=x, **sinks, **kept)
            yield named(batch_norm_backward, *given, **sinks, **kept)


def group_norm_forms(make: Make) -> Forms:
    """Groups of images' channels, and rows."""
    x, dout, groups = make(3, 4, 32, 7, 7), make(3, 4, 32, 7, 7), make.size(8)
    weight, bias = make(3, 32), make(3, 32)
    mean, rstd = make(3, 4, 8), make(3, 4, 8)
    for affine in ((weight, bias), (weight, None), (None, None)):
        yield named(group_norm, x, groups, *affine, eps=1e-3)
        given = x, groups, affine[0], dout, mean, rstd
        yield named(group_norm_backward, *given, dx=x)
        for sinks in scales(make, dict(dweight=weight, dbias=bias)):
            yield named(group_norm_backward, *given, dx=x, **sinks)
    rows, drows = make(3, 4, 5, 32), make(3, 4, 5, 32)
    flat = make(3, 20), make(3, 20)
    for own in (weight, None):
        yield named(layer_norm, rows, (make.size(32),), own, own)
        given = rows, (make.size(32),), own, drows, *flat
        yield named(layer_norm_backward, *given, dx=rows, dweight=weight, dbias=bias)


def pool_forms(make: Make) -> Forms:
    """Windows that do and do not overlap, with margins that count and do not."""
    x, one = make(3, 4, 6, 8, 8), make.ones
    windows: list[dict[str, Any]] = [dict(kernel=2), dict(kernel=(3, 2), stride=2, padding=(1, 0))]
    for kind, window in product(("max", "avg"), [dict(kernel=1)] if one else windows):
        sides = (4, 4) if not one else (1, 1)
        out, argmax = make(3, 4, 6, *sides), make.dense(3, 4, 6, *sides, dtype=torch.int32)
        yield named(pool, x, kind, **window)
        if kind == "max":
            yield named(pool, x, kind, argmax=argmax, **window)
            yield named(pool_backward, out, kind, dx=x, argmax=argmax, **window)
        for counted in (True, False) if kind == "avg" else ():
            more = dict(count_include_pad=counted, **window)
            yield named(pool, x, kind, **more)
            yield named(pool_backward, out, kind, dx=x, **more)
    for size in ((1, 1),) if one else ((1, 1), (3, 5)):
        yield named(adaptive_avg, x, size)
        yield named(adaptive_avg_backward, make(3, 4, 6, *size), dx=x)


FORMS = conv_forms, pooled_forms, batch_norm_forms, group_norm_forms, pool_forms
