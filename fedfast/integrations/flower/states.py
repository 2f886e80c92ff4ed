"""From an ArrayRecord to a state dict, once for all messages that carry it."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord
from torch import Tensor, nn

from .arrays import by_name
from .unsupported import Unsupported


class States:
    """State dicts of the declared model."""

    def __init__(self, module: nn.Module) -> None:
        self._like = module.state_dict()
        self.names = list(self._like)

    def of(self, record: ArrayRecord) -> dict[str, Tensor]:
        """The record's arrays by the names of the model."""
        keys = by_name(record, self.names)
        found = {name: torch.from_numpy(record[keys[name]].numpy()) for name in self.names}
        for name, tensor in found.items():
            if tensor.shape != self._like[name].shape:
                expected, got = list(self._like[name].shape), list(tensor.shape)
                raise Unsupported(f"array {name!r} {got}; the declared model has {expected}")
        return found
