"""`TrainedLayout`: where the trained tensors of the model lie in a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels import Segments
from ..layout import FlatLayout


@dataclass(frozen=True)
class TrainedLayout:
    """The trained tensors of the model in row order, as hooks see them.

    names     of the tensors, as in `named_parameters`
    shapes    of the tensors
    segments  where they lie in a row
    trained   length of the row
    head      where the last Linear lies, (0, 0) where there is none
    dtype     of the rows
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    segments: Segments
    trained: int
    head: tuple[int, int]
    dtype: torch.dtype

    @classmethod
    def of(cls, layout: FlatLayout, device: torch.device | str = "cpu") -> TrainedLayout:
        """The trained part of a layout."""
        slots = [slot for slot in layout.slots if slot.trained]
        return cls(
            names=tuple(slot.name for slot in slots),
            shapes=tuple(tuple(slot.shape) for slot in slots),
            segments=layout.segments(device),
            trained=layout.trained,
            head=layout.head,
            dtype=layout.dtype,
        )

    @property
    def parameters(self) -> int:
        """How many trained numbers there are; a row is longer, with zeros between its tensors."""
        return sum(b - a for a, b in self.segments.spans)

    def real(self, device: torch.device) -> Tensor:
        """Which places of a row are of a tensor. [trained] bool"""
        mask = torch.zeros(self.trained, dtype=torch.bool, device=device)
        for a, b in self.segments.spans:
            mask[a:b] = True
        return mask
