"""`gather` in plain torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Look:
    """How images of bytes are seen.

    scale, shift  `[C]`: a byte v becomes scale v + shift
    margin        `[C]`: what lies outside of the image
    offset, flip  `[K, B, 2]` int32 (y, x) and `[K, B]` uint8; both or neither
    """

    scale: Tensor
    shift: Tensor
    margin: Tensor
    offset: Tensor | None
    flip: Tensor | None


def image(bank: Tensor, look: Look | None) -> tuple[int, int, int]:
    """(channels, height, width) of a sample; one row of pixels where it is seen as it is."""
    if look is not None and look.offset is not None:
        return bank.shape[1], bank.shape[2], bank.shape[3]
    channels = 1 if look is None else look.scale.shape[0]
    return channels, 1, bank.shape[1:].numel() // channels


def gather(bank: Tensor, rows: Tensor, look: Look | None, out: Tensor) -> Tensor:
    """`out = bank[rows]`; with a look `scale v + shift`, cropped and mirrored."""
    if rows.numel() and bool(((rows < 0) | (rows >= bank.shape[0])).any()):
        raise IndexError(ROW_OUT_OF_RANGE.format(bank.shape[0]))
    samples = bank[rows]
    if look is None:
        return out.copy_(samples)
    values = samples.to(out.dtype).view(*rows.shape, *image(bank, look))
    values = values * look.scale.view(-1, 1, 1) + look.shift.view(-1, 1, 1)
    if look.offset is not None and look.flip is not None:
        values = _moved(values, look.margin.view(-1, 1, 1), look.offset, look.flip)
    return out.copy_(values.view(out.shape))


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


ROW_OUT_OF_RANGE = "rows: expected rows of the bank, in [0, {}); one is not"
