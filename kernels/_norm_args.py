"""What the arguments of the operations that normalise have in common."""

from __future__ import annotations

from torch import Tensor

from ._blocks import block, written

Normed = tuple[Tensor, Tensor, Tensor]


def affine(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]
) -> tuple[Tensor | None, Tensor | None]:
    weight = None if weight is None else block("weight", weight, shape, x)
    return weight, None if bias is None else block("bias", bias, shape, x)


def results_of(
    x: Tensor,
    out: Tensor | None,
    mean: Tensor | None,
    rstd: Tensor | None,
    shape: tuple[int, ...],
) -> Normed:
    statistics = written("mean", mean, shape, x), written("rstd", rstd, shape, x)
    return written("out", out, x.shape, x), *statistics


def gradients_of(
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
