"""`gather` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gather import OUT_OF_RANGE


def gather(
    bank: Tensor,
    rows: Tensor,
    out: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    margin: Tensor | None,
    offset: Tensor | None,
    flip: Tensor | None,
    sizes: tuple[int, int, int],
) -> None:
    """`out = bank[rows]`; with a scale `scale v + shift`, cropped and mirrored."""
    if rows.numel() and bool(((rows < 0) | (rows >= bank.shape[0])).any()):
        raise IndexError(OUT_OF_RANGE.format(N=bank.shape[0]))
    values = bank[rows]
    if scale is not None and shift is not None and margin is not None:
        values = values.to(out.dtype).view(*rows.shape, *sizes)
        values = values * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
        if offset is not None and flip is not None:
            values = _moved(values, margin.view(-1, 1, 1), offset, flip)
    out.copy_(values.view(out.shape))


def _moved(values: Tensor, margin: Tensor, offset: Tensor, flip: Tensor) -> Tensor:
    """`values[..., y + oy, x' + ox]`, x' = x or W - 1 - x. values `[K, B, C, H, W]`."""
    height, width = values.shape[3:]
    down, right = torch.arange(height, device=flip.device), torch.arange(width, device=flip.device)
    y = down + offset[..., :1].long()  # [K, B, H]
    x = torch.where(flip[..., None] != 0, right.flip(0), right) + offset[..., 1:].long()
    fits = ((0 <= y) & (y < height))[..., None] & ((0 <= x) & (x < width))[..., None, :]
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    taken = values.gather(3, y[:, :, None, :, None].expand(values.shape))
    taken = taken.gather(4, x[:, :, None, None, :].expand(values.shape))
    return torch.where(fits[:, :, None], taken, margin)
