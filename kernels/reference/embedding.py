"""`embedding` and its backward in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..embedding import OUT_OF_RANGE
from .common import folded


def _check(token: Tensor, words: int) -> None:
    if token.numel() and bool(((token < 0) | (token >= words)).any()):
        raise IndexError(OUT_OF_RANGE.format(V=words))


def embedding(token: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """`out[k, ...] = weight[k, token[k, ...]]`."""
    _check(token, weight.shape[1])
    rows = torch.arange(len(token), device=token.device).view(-1, *[1] * (token.ndim - 1))
    return out.copy_(weight[rows, token])


def embedding_backward(
    token: Tensor,
    dout: Tensor,
    padding: int,
    dweight: Tensor,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor,
) -> None:
    """`dweight = beta base + alpha (sum of dout over each word's tokens)`."""
    _check(token, dweight.shape[1])
    onehot = torch.nn.functional.one_hot(token.flatten(1), dweight.shape[1]).to(dout.dtype)
    gradient = onehot.transpose(1, 2) @ dout.flatten(1, -2)
    if padding >= 0:
        gradient[:, padding] = 0
    folded(dweight, base_weight, gradient, alpha, beta)
