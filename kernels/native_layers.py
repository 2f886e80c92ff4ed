"""The layer operations, compiled; kernels hand over pointers, strides and sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import native
from .native import address, not_noted, operand
from .reference.common import squared as squares_of
from .reference.gather import ROW_OUT_OF_RANGE, Look, image
from .reference.loss import OUT_OF_RANGE

# As `enum class Act`.
ACTIVATIONS = (None, "relu", "tanh", "gelu", "silu", "leaky_relu", "sigmoid", "relu6")


def problem(like: Tensor) -> tuple[bool, int, int]:
    """(float64?, K, threads)."""
    return like.dtype == torch.float64, like.shape[0], torch.get_num_threads()


def _sizes(x: Tensor, weight: Tensor) -> tuple[int, int, int]:
    return x.shape[1], x.shape[2], weight.shape[1]


def _client_size(x: Tensor) -> int:
    return x.numel() // max(x.shape[0], 1)


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`linear`, compiled."""
    native.module.linear(
        problem(x),
        _sizes(x, weight),
        ACTIVATIONS.index(activation),
        operand(x),
        operand(weight),
        operand(bias),
        operand(out),
    )
    return out


def linear_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
    precision: str,
    squares: Tensor | None,
) -> None:
    """`linear_backward`, compiled; squares by a pass of their own."""
    native.module.linear_backward(
        problem(x),
        _sizes(x, weight),
        ACTIVATIONS.index(activation),
        operand(x),
        operand(weight),
        operand(out),
        operand(dout),
        operand(dx),
        operand(dweight),
        operand(dbias),
        address(alpha),
        address(beta),
        operand(base_weight),
        operand(base_bias),
    )
    squared(squares, dweight, dbias)


def squared(to: Tensor | None, *written: Tensor | None) -> None:
    """`squared` of the reference: `stats` is what costs one pass on the CPU."""
    if to is not None:
        not_noted("squares of gradients")
        squares_of(to, *written)


def ghost(x: Tensor, d: Tensor, ones: float, gram: Tensor, squares: Tensor) -> None:
    """`ghost`, compiled."""
    sizes = x.shape[1], x.shape[2], d.shape[2]
    to = operand(gram), operand(squares)
    native.module.ghost(problem(x), sizes, ones, operand(x), operand(d), *to)


def reach(squares: Sequence[Tensor], rho: float, eps: float, most: float, out: Tensor) -> Tensor:
    """`reach`, compiled."""
    slots = [(*operand(t), t.shape[1], t.stride(1)) for t in squares]
    slots += [(0, 0, 0, 0)] * (2 - len(slots))
    native.module.reach(problem(out), slots, (rho, eps, most), address(out))
    return out


def lowrank(
    x: Tensor,
    u: Tensor,
    v: Tensor,
    scale: Tensor,
    ones: float,
    gram: Tensor | None,
    base: Tensor,
    activation: str | None,
    out: Tensor,
) -> Tensor:
    """`lowrank`, compiled."""
    native.module.lowrank(
        problem(x),
        (x.shape[1], x.shape[2], v.shape[2]),
        ACTIVATIONS.index(activation),
        ones,
        operand(x),
        operand(u),
        operand(v),
        operand(gram),
        address(scale),
        operand(base),
        operand(out),
    )
    return out


def activation(x: Tensor, kind: str, slope: float, out: Tensor) -> Tensor:
    """`activation`, compiled."""
    native.module.activation(
        problem(x), _client_size(x), ACTIVATIONS.index(kind), slope, operand(x), operand(out)
    )
    return out


def activation_backward(
    x: Tensor, out: Tensor, dout: Tensor, kind: str, slope: float, dx: Tensor
) -> Tensor:
    """`activation_backward`, compiled."""
    native.module.activation_backward(
        problem(x),
        _client_size(x),
        ACTIVATIONS.index(kind),
        slope,
        operand(x),
        operand(out),
        operand(dout),
        operand(dx),
    )
    return dx


def cross_entropy(
    logits: Tensor, targets: Tensor, count: Tensor, losses: Tensor, dlogits: Tensor
) -> None:
    """`cross_entropy`, compiled."""
    fine = native.module.cross_entropy(
        problem(logits),
        logits.shape[1],
        logits.shape[2],
        operand(logits),
        operand(targets),
        address(count),
        address(losses),
        operand(dlogits),
    )
    if not fine:
        raise IndexError(OUT_OF_RANGE)


def gather(bank: Tensor, rows: Tensor, look: Look | None, out: Tensor) -> Tensor:
    """`gather`, compiled."""
    given = problem(out), (bank.shape[0], rows.shape[1], *image(bank, look)), operand(rows)
    if look is None:
        fine = native.module.gather_bytes(*given, address(bank), bank.element_size(), operand(out))
    else:
        scene = [address(t) for t in (look.scale, look.shift, look.margin, look.offset, look.flip)]
        fine = native.module.gather_images(*given, address(bank), scene, operand(out))
    if not fine:
        raise IndexError(ROW_OUT_OF_RANGE.format(bank.shape[0]))
    return out
