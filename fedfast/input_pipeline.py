"""The bank of samples as local steps see it: normalised, and augmented by draws of its own.

The draw of client i's slot b in step s of round t is a function of (seed, t, i, s, b) alone; a
chunk's draws are made at once, on the host, and operations receive them as offsets and flips.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .data import Augment, FederatedData, Normalize
from .random import AUGMENT, Ints, Words, keys64


@dataclass(frozen=True)
class Draws:
    """Where a chunk's images are seen from: offset [T, K, B, 2] int32 (y, x), flip [T, K, B].

    Step by step, so that what a step takes lies in one piece.
    """

    offset: Tensor
    flip: Tensor


@dataclass(frozen=True)
class View:
    """One local step's look at the bank."""

    bank: Tensor
    dtype: torch.dtype
    backend: str
    look: dict[str, Tensor] = field(default_factory=dict)

    def empty(self, rows: Tensor) -> Tensor:
        """Room for the samples `rows` [K, B]: [K, B, ...]."""
        return self.bank.new_empty(*rows.shape, *self.bank.shape[1:], dtype=self.dtype)

    def take(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        """The samples `rows` [K, B] as the model is given them, [K, B, ...]."""
        out = self.empty(rows) if out is None else out
        return kernels.gather(self.bank, rows, out=out, backend=self.backend, **self.look)


class InputPipeline:
    """Owns how the samples of `data` reach a model in training."""

    def __init__(
        self,
        data: FederatedData,
        augment: Augment | None,
        seed: int,
        dtype: torch.dtype,
        backend: str,
    ) -> None:
        self.x, self.y, self.augment, self.seed = data.x, data.y, augment, seed
        self.backend, self.dtype, self._tones = backend, data.x.dtype, {}
        if data.x.dtype == torch.uint8:
            self.dtype = dtype
            scale, shift = (data.normalize or Normalize()).scale_and_shift(dtype, data.x.device)
            after = augment is not None and not augment.black
            margin = torch.zeros_like(shift) if after else shift
            self._tones = dict(scale=scale, shift=shift, margin=margin)

    def draw(self, round: int, clients: Ints, steps: int, width: int) -> Draws | None:
        """The draws of a chunk of clients [K] for `steps` steps of `width` slots each."""
        if self.augment is None:
            return None
        made = draws(self.augment, self.seed, round, clients, steps, width)
        by_step = (torch.from_numpy(part).transpose(0, 1).contiguous() for part in made)
        return Draws(*(part.to(self.x.device) for part in by_step))

    def view(self, drawn: Draws | None, s: int, active: int) -> View:
        """Step `s` of the first `active` clients."""
        look = dict(self._tones)
        if drawn is not None:
            look |= dict(offset=drawn.offset[s, :active], flip=drawn.flip[s, :active])
        return View(self.x, self.dtype, self.backend, look)


def draws(
    augment: Augment, seed: int, round: int, clients: Ints, steps: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """offset [K, T, B, 2] int32 (y, x) in [-pad, pad] and flip [K, T, B] bool.

    Of each 64-bit key 24 bits move the image down, 24 right, 15 decide whether, 1 mirrors it.
    """
    purposes = AUGMENT + 256 * np.arange(steps)
    slots = 1 if augment.per_batch else width
    keys = keys64(seed, round, np.asarray(clients)[:, None], purposes, slots)  # [K, T, slots]
    reach = 2 * augment.pad + 1
    moves = np.stack([_scaled(keys, 0, 24, reach), _scaled(keys, 24, 24, reach)], -1) - augment.pad
    whether = _scaled(keys, 48, 15, 1 << 15) < augment.crop_chance * (1 << 15)
    offset = np.where(whether[..., None], moves, 0).astype(np.int32)
    flip = (keys >> np.uint64(63)).astype(bool) & augment.flip
    shape = (*keys.shape[:2], width)
    return np.broadcast_to(offset, (*shape, 2)).copy(), np.broadcast_to(flip, shape).copy()


def _scaled(keys: Words, at: int, bits: int, count: int) -> Ints:
    """An integer in [0, count) from `bits` bits of each key."""
    part = (keys >> np.uint64(at)) & np.uint64((1 << bits) - 1)
    return ((part * np.uint64(count)) >> np.uint64(bits)).astype(np.int64)
