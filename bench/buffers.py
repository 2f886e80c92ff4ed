"""Buffers `[K, S]` of K models, and the same models as torch holds them."""

from __future__ import annotations

from math import prod

import torch
from fedfast.kernels import Segments
from sizes import pick
from torch import Tensor

K = pick(10, 2)
# The CNN of McMahan et al. 2017 for 28 x 28 images: P = 1,663,370.
CNN = ((32, 1, 5, 5), (32,), (64, 32, 5, 5), (64,), (512, 3136), (512,), (10, 512), (10,))
SHAPES: tuple[tuple[int, ...], ...] = pick(CNN, ((4, 1, 5, 5), (4,), (3, 40), (3,)))
P = sum(map(prod, SHAPES))

Lists = list[list[Tensor]]


def layout() -> tuple[Segments, int]:
    """The segment table of the model, tensors at multiples of 32, and the row stride S."""
    offsets, end = [], 0
    for shape in SHAPES:
        offsets.append(end)
        end += -(-prod(shape) // 32) * 32
    lengths = [prod(shape) for shape in SHAPES]
    weights = [len(shape) > 1 for shape in SHAPES]
    return Segments.of(offsets, lengths, weights), -(-end // 64) * 64


SEGMENTS, S = layout()
_NORMAL = torch.randn(2**16 + 1)


def normal(*shape: int) -> Tensor:
    """Normal float32 of a period of 65,537 numbers, which takes no longer than a copy."""
    n = prod(shape)
    return _NORMAL.repeat(-(-n // len(_NORMAL)))[:n].reshape(shape).clone()


def bank(*shape: int) -> Tensor:
    """Normal float32, [K, S] unless a shape is given."""
    return normal(*(shape or (K, S)))


def tensors() -> list[Tensor]:
    """One model as its nn.Module holds it: a tensor per parameter."""
    return [normal(*shape) for shape in SHAPES]


def models() -> Lists:
    """K models."""
    return [tensors() for _ in range(K)]
