"""Every layer with every optional argument, for `launches.py`; see `launch_forms.py`."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import torch
from fedfast.kernels import (
    activation,
    activation_backward,
    embedding,
    embedding_backward,
    ghost,
    joined,
    layer_reach,
    linear,
    linear_backward,
    lowrank,
    lstm,
    lstm_backward,
    reach,
)
from fedfast.kernels._args import PRECISIONS
from fedfast.kernels.activation import KINDS
from fedfast.kernels.linear import FUSED
from launch_forms import Forms, Make, named


def precisions(make: Make) -> tuple[str, ...]:
    """Products of float64 are exact whatever is permitted; strides do not ask for a precision."""
    every = make.dtype == torch.float32 and not (make.ones or make.far)
    return PRECISIONS if every else ("fp32",)


def scales(make: Make, sinks: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Sinks as they are, and with what is folded into them."""
    bases = {f"base_{name[1:]}": t for name, t in sinks.items() if t is not None}
    return sinks, dict(**sinks, alpha=make.dense(3), beta=0.5, **bases)


def element_forms(make: Make) -> Forms:
    """Every function, forward and backward."""
    x, out = make(3, 10, 36), make(3, 10, 36)
    for kind in KINDS:
        yield named(activation, x, kind, slope=0.2)
        yield named(activation_backward, x, out, out, kind, slope=0.2, dx=x)
    yield named(activation, x, "leaky_relu", slope=1)  # a whole number is no constant


def linear_forms(make: Make) -> Forms:
    """Layers of 36 and 68 features, and of few."""
    for batch, inputs, outputs in ((50, 36, 68), (4, 8, 10)):
        x, dx = make(3, batch, inputs), make(3, batch, inputs)
        weight, bias = make(3, outputs, inputs), make(3, outputs)
        out, dout = make(3, batch, outputs), make(3, batch, outputs)
        squares = make.dense(3, dtype=torch.float64)
        for precision, kind in product(precisions(make), FUSED):
            options = dict(precision=precision, activation=kind)
            yield named(linear, x, weight, bias, **options)
            yield named(linear, x, weight[0], None, **options)
            given, none = (x, weight, out, dout), dict(dweight=weight, dbias=None)
            yield named(linear_backward, *given, dx=dx, **options)
            for sinks in (*scales(make, dict(dweight=weight, dbias=bias)), none):
                yield named(linear_backward, *given, dx=dx, **sinks, **options)
                yield named(linear_backward, *given, squares=squares, **sinks, **options)


def lowrank_forms(make: Make) -> Forms:
    """Ghost norms and what replaces a second backward pass."""
    x, v, base = make(3, 12, 36), make(3, 12, 68), make(3, 12, 68)
    sums = make.dense(3, 4, dtype=torch.float64)
    for ones, kept in product((0.0, 1.0), (None, make(3, 12, 12))):
        yield named(ghost, x, v, ones=ones, gram=kept)
        for kind in FUSED:
            yield named(lowrank, x, x, v, 0.1, base=base, ones=ones, gram=kept, activation=kind)
    wide, large = make(3, 40, 700), make(3, 40, 68)  # several pieces, tiles and strips
    for precision in precisions(make):
        yield named(ghost, wide, large, ones=1.0, precision=precision)
        yield named(lowrank, wide, wide, large, 0.1, base=large, ones=1.0, precision=precision)
    weight, bias, limit = make(3, 68, 36), make(3, 68), 0.5
    for ones, added in product((0.0, 1.0), (None, bias)):
        more = dict(add_weight=weight, add_bias=added, ones=ones, limit=limit)
        yield named(joined, x, v, known=[sums], added=[sums[:, 1:]], **more)
    for precision in precisions(make):
        more = dict(add_weight=weight, add_bias=bias, ones=1.0, limit=limit, precision=precision)
        yield named(joined, x, v, known=[sums, sums], added=[sums, sums], **more)
    for given in ([sums], [sums, sums[:, 1:]]):
        yield named(reach, given, 0.1, 0.0, out=make.dense(3))
        yield named(reach, given, 0.1, 1e-6, out=make.dense(3), most=1.0)
        yield named(reach, given, 0.0, 1e-6, out=make.dense(3), radii=sums[:, 0].contiguous())
        for limit in (math.inf, 10.0):
            yield named(layer_reach, make(3, 8), given, 1e-6, limit=limit, out=make(8, 3))


def embedding_forms(make: Make) -> Forms:
    """Vectors of 100 numbers and of 8."""
    token = make.dense(3, 4, 20, dtype=torch.int64)
    for width in (100, 8):
        weight, out = make(3, 80, width), make(3, 4, 20, width)
        yield named(embedding, token, weight)
        for sinks, padding in product(scales(make, dict(dweight=weight)), (None, 0, 1)):
            yield named(embedding_backward, token, out, padding=padding, **sinks)
        yield named(embedding_backward, token, out, padding=np.int64(2), dweight=weight)


def lstm_forms(make: Make) -> Forms:
    """Sequences of three steps."""
    batch, steps, hidden = 20, 3, 36
    x, gates = make(3, batch, steps, 8), make(3, batch, steps, 4 * hidden)
    cells, out, dout = (make(3, batch, steps, hidden) for _ in range(3))
    rows = (3, 4) if make.ones else (3, 4 * hidden)
    bank = Make(make.dtype, far=make.far)  # a hidden unit has four gates
    inputs = [make.size(8)], [make.size(hidden)]
    ih, hh, bias_ih, bias_hh = (bank(make.size(3), rows[1], *n) for n in (*inputs, [], []))
    if make.ones:
        gates = bank(1, 1, 1, 4)
    weights = dict(dweight_ih=ih, dweight_hh=hh)
    for precision in precisions(make):
        options = dict(precision=precision)
        yield named(lstm, x, ih, hh, bias_ih, bias_hh, gates=gates, cells=cells, **options)
        yield named(lstm, x, ih, hh, **options)
        given = x, ih, hh, gates, cells, out, dout
        yield named(lstm_backward, *given, **weights, **options)
        full = weights | dict(dbias_ih=bias_ih, dbias_hh=bias_hh)
        for sinks in scales(make, full):
            yield named(lstm_backward, *given, dx=x, **sinks, **options)


FORMS = element_forms, linear_forms, lowrank_forms, embedding_forms, lstm_forms
