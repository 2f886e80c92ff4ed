"""Dropout masks from the package's numpy generator, which known answers hold to Philox."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fedfast import random


def mask(seed: int, layer: int, size: int, p: float) -> Tensor:
    """What is kept of `size` elements: draw e is word e mod 4 of block e / 4."""
    blocks = np.arange((size + 3) // 4)
    zero = np.zeros_like(blocks)
    counter = np.stack([blocks, zero, zero + layer, zero], axis=-1)
    words = random.philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)
    return torch.from_numpy(words[:size] / 2**32 >= p)


class Masked(nn.Module):
    """Multiplies by a fixed mask `[B, ...]`: dropout as autograd sees it."""

    def __init__(self, factors=None):
        super().__init__()
        self.factors = factors

    def forward(self, x):
        return x * self.factors[: len(x)]
