"""Tangents of linear layers and convolutions: products are linear in each operand.

y = x W^T + b:    Ry = x V^T + Rx W^T + Rb
                  R dx = R dy W + dy V,    R dW = R dy^T x + dy^T Rx,    R db = sum R dy
"""

from __future__ import annotations

from torch import Tensor

from .. import kernels
from .products import Conv, ConvPool, ProductLayer
from .records import Arguments
from .tangents import Rule, TangentPass


def _product(
    record: ProductLayer,
    t: TangentPass,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
) -> None:
    how: Arguments = record._how(t)
    if isinstance(record, ConvPool):
        _convolved_at(record, t, x, weight, bias, out)
    elif isinstance(record, Conv):
        kernels.conv(x, weight, bias, out=out, **how)
    else:
        kernels.linear(x, weight, bias, out=out, **how)


def _convolved_at(
    record: ConvPool, t: TangentPass, x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor
) -> None:
    """The convolution where the maxima of the first pass are; a client's planes at a time."""
    how = record._how(t)
    window, tap = how.pop("kernel"), how.pop("tap")
    planes = t.scratch(out[:1], *record.planes(x.shape[3:], weight.shape[3:]))
    for k in range(t.clients):
        own = slice(k, k + 1)
        kernels.conv(x[own], weight[own], None if bias is None else bias[own], out=planes, **how)
        kernels.pick(planes, kernel=window, tap=tap[own], out=out[own], backend=t.backend)


def _product_forward(record: ProductLayer, t: TangentPass) -> None:
    """`R y = x V + Rx W + Rb`."""
    x, out = t.at.value(record.inputs[0]), t.value(record.output)
    bias = t.parameter(str(record.bias)) if t.moves(record.bias) else None
    moves, learns = t.moves(record.weight), t.needs(record.inputs[0])
    if moves:
        _product(record, t, x, t.parameter(record.weight), bias, out)
    if learns:
        part = t.scratch(out) if moves else out
        weight = t.at.parameter(record.weight)
        _product(record, t, t.value(record.inputs[0]), weight, None if moves else bias, part)
        if moves:
            kernels.mix(out.flatten(1), part.flatten(1), out=out.flatten(1), backend=t.backend)
    if not moves and not learns:
        out.copy_(_spread(bias, out))


def _spread(bias: Tensor | None, out: Tensor) -> Tensor:
    """A bias [K, C] over outputs [K, B, C, ...]."""
    assert bias is not None
    return bias.view(bias.shape[0], 1, -1, *[1] * (out.ndim - 3))


def _product_backward(record: ProductLayer, t: TangentPass) -> None:
    """`R dx = R dy W + dy V`, `R dw = R dy^T x + dy^T Rx`, `R db = sum R dy`."""
    weight, dx = t.at.parameter(record.weight), t.collect(record.inputs[0])
    sinks = record._sinks(t)
    _back(record, t, t.at.value(record.inputs[0]), weight, t.gradient(record.output), dx, sinks)
    if dx is None or not t.moves(record.weight):
        return
    part, given = t.scratch(dx), t.at.gradient(record.output)
    more = dict(dweight=sinks["dweight"], alpha=1.0, beta=1.0)
    _back(record, t, t.value(record.inputs[0]), t.parameter(record.weight), given, part, more)
    kernels.mix(dx.flatten(1), part.flatten(1), out=dx.flatten(1), backend=t.backend)


def _back(
    record: ProductLayer,
    t: TangentPass,
    x: Tensor,
    weight: Tensor,
    dout: Tensor,
    dx: Tensor | None,
    sinks: Arguments,
) -> None:
    how, out = record._how(t) | sinks | dict(dx=dx), t.at.value(record.output)
    if isinstance(record, ConvPool):
        tap = how.pop("tap")
        kernels.conv_pool_backward(x, weight, out, tap, dout, **how)
    elif isinstance(record, Conv):
        kernels.conv_backward(x, weight, out, dout=dout, **how)
    else:
        kernels.linear_backward(x, weight, out, dout, **how)


PRODUCT = Rule(_product_forward, _product_backward)
