"""Weighted sums over models in float64: of rows in one bank, or of tensors that lie apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import kernels

BLOCK = 1 << 15  # elements of a sum that stay in a core's cache while all models are added
SERVED = (torch.float32, torch.float64)


def sum_of_rows(rows: Tensor, weights: Tensor) -> Tensor:
    """`sum_k weights_k rows_k` of a bank `[K, S]` by `kernels.aggregate`; float64 [S].

    weights   [K] float64

    The operation takes weights in the rows' dtype. Rows in float32 are added with the weights
    rounded to it, and once more with what that left of them where it left anything: 48 bits of a
    weight count.
    """
    if rows.dtype not in SERVED or rows.device.type not in ("cpu", "cuda"):
        return sum_of_tensors(rows.unbind(0), weights.tolist())
    acc = torch.empty(rows.shape[1], dtype=torch.float64, device=rows.device)
    origin, near = rows.new_zeros(rows.shape[1]), weights.to(rows.dtype)
    kernels.aggregate(rows, near, origin, acc=acc)
    rest = (weights - near.double()).to(rows.dtype)
    if bool(rest.any()):
        kernels.aggregate(rows, rest, origin, acc=acc, first=False)
    return acc


def sum_of_tensors(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """`sum_k weights_k tensors_k` of tensors of one shape; float64, of that shape.

    Block after block, so that each tensor is read from memory once, and nothing is copied.
    """
    acc = torch.zeros(tensors[0].shape, dtype=torch.float64, device=tensors[0].device)
    size = BLOCK if acc.device.type == "cpu" else max(acc.numel(), 1)
    blocks = [t.reshape(-1).to(acc.device).split(size) for t in tensors]
    for i, block in enumerate(acc.view(-1).split(size)):
        for own, weight in zip(blocks, weights, strict=True):
            block.add_(own[i], alpha=weight)
    return acc
