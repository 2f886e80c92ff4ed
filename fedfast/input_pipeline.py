"""How samples reach local steps: normalised, and augmented by draws of their own.

The draw of client i's slot b in step s of round t is a function of (seed, t, i, s, b) alone; a
chunk's draws are made at once, on the host, and operations receive them as offsets and flips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .batches import Draws, Minibatch
from .data import Augment, FederatedData, Normalize
from .random import AUGMENT, Ints, Words, keys64


@dataclass(frozen=True)
class SampleSource:
    """The data set as one local step reads it.

    x, y       all samples [n, ...] and their labels
    dtype      of the inputs that are read
    transform  options of `kernels.gather`: normalisation, and the step's augmentation
    """

    x: Tensor
    y: Tensor
    dtype: torch.dtype
    backend: str
    transform: Mapping[str, Tensor]

    def buffers(self, clients: int, width: int) -> Minibatch:
        """Memory for a mini-batch of `width` samples of each client."""
        shape = clients, width
        x = self.x.new_empty(*shape, *self.x.shape[1:], dtype=self.dtype)
        count = torch.empty(clients, dtype=torch.int32, device=self.y.device)
        return Minibatch(x, self.y.new_empty(shape), count)

    def inputs(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        """The samples `rows` [K, B] as the model is given them, [K, B, ...]."""
        if out is None:
            out = self.x.new_empty(*rows.shape, *self.x.shape[1:], dtype=self.dtype)
        return kernels.gather(self.x, rows, out=out, backend=self.backend, **self.transform)

    def read(self, rows: Tensor, into: Minibatch) -> None:
        """Samples and labels of `rows` [K, B]."""
        self.inputs(rows, into.x)
        kernels.gather(self.y, rows, out=into.y, backend=self.backend)


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
        self.augment, self.seed, self.device = augment, seed, data.x.device
        transform, held = {}, data.x.dtype
        if held == torch.uint8:
            scale, shift = (data.normalize or Normalize()).scale_and_shift(dtype, data.x.device)
            after = augment is not None and not augment.black
            margin = torch.zeros_like(shift) if after else shift
            transform, held = dict(scale=scale, shift=shift, margin=margin), dtype
        self.plain = SampleSource(data.x, data.y, held, backend, transform)

    def read(self, x: Tensor, y: Tensor) -> None:
        """From now on samples are those of x, y: of the type and shape of the ones before."""
        self.plain = replace(self.plain, x=x, y=y)

    def draw(self, round: int, clients: Ints, steps: Ints, width: int) -> Draws | None:
        """The draws of `width` slots of each batch: of client `clients[i]` at step `steps[i]`."""
        if self.augment is None:
            return None
        made = draws(self.augment, self.seed, round, clients, steps, width)
        return Draws(*(torch.from_numpy(part).to(self.device) for part in made))

    def source(self, drawn: Draws | None, lines: slice) -> SampleSource:
        """What the batches `lines` are read from."""
        if drawn is None:
            return self.plain
        own = dict(offset=drawn.offset[lines], flip=drawn.flip[lines])
        return replace(self.plain, transform={**self.plain.transform, **own})


def draws(
    augment: Augment, seed: int, round: int, clients: Ints, steps: Ints, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """offset [n, B, 2] int32 (y, x) in [-pad, pad] and flip [n, B] bool, of B = `width` slots.

    clients, steps  [n], whose batches and which of each client's
    Of each 64-bit key 24 bits move the image down, 24 right, 15 decide whether, 1 mirrors it.
    """
    slots = 1 if augment.per_batch else width
    keys = keys64(seed, round, clients, AUGMENT + 256 * np.asarray(steps), slots)  # [n, slots]
    reach = 2 * augment.pad + 1
    moves = np.stack([_scaled(keys, 0, 24, reach), _scaled(keys, 24, 24, reach)], -1) - augment.pad
    whether = _scaled(keys, 48, 15, 1 << 15) < augment.crop_chance * (1 << 15)
    offset = np.where(whether[..., None], moves, 0).astype(np.int32)
    flip = (keys >> np.uint64(63)).astype(bool) & augment.flip
    shape = (*keys.shape[:-1], width)
    return np.broadcast_to(offset, (*shape, 2)).copy(), np.broadcast_to(flip, shape).copy()


def _scaled(keys: Words, at: int, bits: int, count: int) -> Ints:
    """An integer in [0, count) from `bits` bits of each key."""
    part = (keys >> np.uint64(at)) & np.uint64((1 << bits) - 1)
    return ((part * np.uint64(count)) >> np.uint64(bits)).astype(np.int64)
