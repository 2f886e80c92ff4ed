"""`RecordRows`: a model's rows from Flower's ArrayRecords, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor, nn

from ... import FlatLayout
from ..._messages import format_value


class RecordRows:
    """Reads and writes records with the tensors of `model.state_dict()`.

    In the row: trained parameters, which the server's rule moves; running statistics, frozen
    parameters and counters such as `num_batches_tracked`, which are averaged. Other integers
    (masks, tables) stay as the server has them.
    Raises TypeError for a model that is no nn.Module.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: expected an nn.Module; got {format_value(model)}")
        learns = {name for name, p in model.named_parameters() if p.requires_grad}
        carried = [
            name
            for name, t in model.state_dict().items()
            if name not in learns and (t.is_floating_point() or t.numel() == 1)
        ]
        self.layout = FlatLayout.of(model, moving=carried)

    def read(self, record: ArrayRecord, out: Tensor | None = None) -> Tensor:
        """A record as a row [S], into `out` where it is given.

        Raises ValueError for a tensor of the model that is missing or has another shape.
        """
        row = self.layout.bank(1)[0] if out is None else out
        for slot, view in zip(self.layout.slots, self.layout.views(row).values(), strict=True):
            value = record[slot.name].numpy() if slot.name in record else None
            if value is None or value.shape != tuple(slot.shape):
                found = "nothing" if value is None else list(value.shape)
                raise ValueError(
                    f"arrays: expected {slot.name} {list(slot.shape)} as the strategy's model has "
                    f"it; got {found}"
                )
            view.copy_(torch.from_numpy(value))
        return row

    def stack(self, records: Sequence[ArrayRecord]) -> Tensor:
        """Records as rows [C, S]."""
        rows = self.layout.bank(len(records))
        for record, row in zip(records, rows, strict=True):
            self.read(record, row)
        return rows

    def write(self, row: Tensor, like: ArrayRecord) -> ArrayRecord:
        """`like` with the values of a row [S], each tensor in its own dtype; a copy."""
        views = self.layout.views(row)
        held = {name: views.get(self.layout.aliases.get(name, name)) for name in like}
        return ArrayRecord(
            {
                name: array if held[name] is None else _array(held[name], array.dtype)
                for name, array in like.items()
            }
        )


def _array(view: Tensor | None, dtype: str) -> Array:
    assert view is not None
    return Array(np.asarray(view.numpy(), dtype=dtype))
