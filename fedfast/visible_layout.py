"""The part of a run's layout that algorithms may see."""

from __future__ import annotations

import torch

from .algorithms.hooks import TrainedLayout
from .layout import FlatLayout


def visible_layout(layout: FlatLayout, device: torch.device) -> TrainedLayout:
    """The trained tensors in row order."""
    slots = [slot for slot in layout.slots if slot.trained]
    return TrainedLayout(
        names=tuple(slot.name for slot in slots),
        shapes=tuple(tuple(slot.shape) for slot in slots),
        segments=layout.segments(device),
        trained=layout.trained,
        head=layout.head,
        dtype=layout.dtype,
    )
