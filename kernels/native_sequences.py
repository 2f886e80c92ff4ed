"""The operations of sequence models, compiled; kernels hand over pointers, strides and sizes."""

from __future__ import annotations

from torch import Tensor

from . import native
from .native import address, operand
from .native_layers import problem
from .reference.embedding import TOKEN_OUT_OF_RANGE


def dropout(
    x: Tensor, seeds: Tensor, layer: int, threshold: int, scale: float, span: int, out: Tensor
) -> Tensor:
    """`dropout`, compiled."""
    key, drawn = address(seeds), (layer, threshold, scale)
    size = x[0].numel() if len(x) else 0
    native.module.dropout(problem(x), size, span, operand(x), key, *drawn, operand(out))
    return out


def log_softmax(x: Tensor, out: Tensor) -> Tensor:
    """`log_softmax`, compiled."""
    sizes = x.shape[1:-1].numel(), x.shape[-1]
    native.module.log_softmax(problem(x), *sizes, operand(x), operand(out))
    return out


def log_softmax_backward(out: Tensor, dout: Tensor, dx: Tensor) -> Tensor:
    """`log_softmax_backward`, compiled."""
    sizes = out.shape[1:-1].numel(), out.shape[-1]
    operands = operand(out), operand(dout), operand(dx)
    native.module.log_softmax_backward(problem(out), *sizes, *operands)
    return dx


def _table(token: Tensor, weight: Tensor) -> tuple[int, ...]:
    return token.shape[1:].numel(), weight.shape[1], weight.shape[2]


def embedding(token: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """`embedding`, compiled."""
    operands = operand(token), operand(weight), operand(out)
    if not native.module.embedding(problem(out), _table(token, weight), *operands):
        raise IndexError(TOKEN_OUT_OF_RANGE.format(weight.shape[1]))
    return out


def embedding_backward(
    token: Tensor,
    dout: Tensor,
    padding: int,
    dweight: Tensor,
    alpha: Tensor,
    beta: Tensor,
    base: Tensor,
) -> None:
    """`embedding_backward`, compiled."""
    fine = native.module.embedding_backward(
        problem(dout),
        _table(token, dweight),
        padding,
        operand(token),
        operand(dout),
        address(alpha),
        address(beta),
        operand(base),
        operand(dweight),
    )
    if not fine:
        raise IndexError(TOKEN_OUT_OF_RANGE.format(dweight.shape[1]))


def _sizes(x: Tensor, weight_hh: Tensor) -> tuple[int, ...]:
    return *x.shape[1:], weight_hh.shape[2]


def lstm(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    gates: Tensor,
    cells: Tensor,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`lstm`, compiled."""
    parameters = [operand(t) for t in (weight_ih, weight_hh, bias_ih, bias_hh)]
    kept = operand(gates), operand(cells), operand(out)
    native.module.lstm(problem(x), _sizes(x, weight_hh), operand(x), parameters, kept)
    return out


def lstm_backward(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    gates: Tensor,
    cells: Tensor,
    out: Tensor,
    dout: Tensor,
    dx: Tensor | None,
    sinks: list[Tensor | None],
    bases: list[Tensor | None],
    alpha: Tensor,
    beta: Tensor,
    precision: str,
) -> None:
    """`lstm_backward`, compiled."""
    native.module.lstm_backward(
        problem(x),
        _sizes(x, weight_hh),
        operand(x),
        [operand(t) for t in (weight_ih, weight_hh, None, None)],
        (operand(gates), operand(cells), operand(out)),
        operand(dout),
        operand(dx),
        address(alpha),
        address(beta),
        [operand(t) for t in bases],
        [operand(t) for t in sinks],
    )
