"""`dropout` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

WORD = 0xFFFFFFFF


def philox(counter: list[Tensor], key: list[Tensor]) -> list[Tensor]:
    """Philox4x32-10: four random words of four counter words under two key words, all int64.

    Products wrap around 2^64 as unsigned ones would; only their 32-bit halves are used.
    """
    c, k = counter, key
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(p1 >> 32 & WORD) ^ c[1] ^ k[0], p1 & WORD, (p0 >> 32 & WORD) ^ c[3] ^ k[1], p0 & WORD]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


def dropout(
    x: Tensor, seeds: Tensor, layer: int, threshold: int, scale: float, span: int, out: Tensor
) -> Tensor:
    """`out = scale x` where the element's random word is at least the threshold, else 0."""
    draws = x[0].numel() // span
    block = torch.arange((draws + 3) // 4, device=x.device).expand(len(x), -1)
    zero, key = torch.zeros_like(block), seeds[:, None]
    counter = [block & WORD, block >> 32, zero + layer, zero]
    words = torch.stack(philox(counter, [key & WORD, key >> 32 & WORD]), 2).flatten(1)[:, :draws]
    kept = (words >= threshold).repeat_interleave(span, 1).view(x.shape)
    return out.copy_(torch.where(kept, x * scale, 0.0))
