"""How samples reach local steps: normalised, and augmented by draws of their own.

The draw of client i's slot b in step s of round t is a function of (seed, t, i, s, b) alone; a
chunk's draws are made at once, on the host, and operations receive them as offsets and flips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import kernels
from .batches import Draws, Minibatch, Packing
from .data import Augment, FederatedData, Normalize
from .kernels.packing import Into, Packed, Tones
from .random import Ints
from .step_draws import crops
from .transfers import sent_to


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

    def buffers(self, clients: int, width: int, random: bool = False) -> Minibatch:
        """Memory for a mini-batch of `width` samples of each client; random: for seeds too."""
        shape = clients, width
        x = self.x.new_empty(*shape, *self.x.shape[1:], dtype=self.dtype)
        count = torch.empty(clients, dtype=torch.int32, device=self.y.device)
        seeds = torch.empty(clients, dtype=torch.int64, device=self.y.device) if random else None
        return Minibatch(x, self.y.new_empty(shape), count, seeds)

    def inputs(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        """The samples `rows` [K, B] as the model is given them, [K, B, ...]."""
        if out is None:
            out = self.x.new_empty(*rows.shape, *self.x.shape[1:], dtype=self.dtype)
        return kernels.gather(self.x, rows, out=out, backend=self.backend, **self.transform)

    def fetch(self, packed: Packed, into: Minibatch) -> None:
        """The samples, labels, counts and seeds of each client's next line."""
        given = Into(into.x, into.y, into.count, into.seeds)
        kernels.fetch(self.x, self.y, packed, given, Tones(**self.transform), self.backend)

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

    def draw(self, round: int, clients: Ints, packing: Packing, width: int) -> Draws | None:
        """The draws of `width` slots of each packed batch of the `clients` [K]."""
        if self.augment is None:
            return None
        offset, flip = crops(self.augment, (self.seed, round), clients, packing, width)
        return Draws(sent_to(offset, self.device), sent_to(flip, self.device))

    def source(self, drawn: Draws | None) -> SampleSource:
        """What batches are read from that are augmented by these draws."""
        if drawn is None:
            return self.plain
        own = dict(offset=drawn.offset, flip=drawn.flip)
        return replace(self.plain, transform={**self.plain.transform, **own})
