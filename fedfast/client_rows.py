"""Memory for clients' rows and values, which grows with the clients that take part."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

GROWTH = 64  # places made at first; then twice as many each time


class ClientRows:
    """Places for rows and values, which both tables of a `ClientState` point into.

    stale  ids of clients whose places in the two tables may differ
    """

    def __init__(
        self, rows: Mapping[str, str], values: Mapping[str, Tensor], row: Tensor, trained: int
    ) -> None:
        self.first, self.device, self.stale = dict(rows), row.device, no_ids()
        self.initial = row.clone() if "model" in self.first.values() else None
        self.default = {name: v.to(row.device) for name, v in values.items()}
        self.rows = {
            name: row.new_zeros(0, len(row) if kind == "model" else trained)
            for name, kind in rows.items()
        }
        self.values = {name: v.new_empty(0, *v.shape) for name, v in self.default.items()}

    def grow(self, places: int, limit: int) -> None:
        """Allocate so many places; `limit`: there will never be more."""
        for tables in (self.rows, self.values):
            for name, held in tables.items():
                if places > len(held):
                    size = max(places, min(max(GROWTH, 2 * len(held)), limit))
                    grown = held.new_empty(size, *held.shape[1:])
                    grown[: len(held)] = held
                    tables[name] = grown

    def begin(self, slots: Tensor, start: Tensor | None) -> None:
        """What clients hold that never took part."""
        at = slots.to(self.device)
        for name, kind in self.first.items():
            held = self.initial if kind == "model" else start
            self.rows[name][at] = 0.0 if kind == "zeros" or held is None else held
        for name, default in self.default.items():
            self.values[name][at] = default

    def filled(self, rows: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> ClientRows:
        """The same with other contents."""
        made = ClientRows.__new__(ClientRows)
        made.first, made.device, made.stale = self.first, self.device, no_ids()
        made.initial, made.default = self.initial, self.default
        made.rows = {name: rows[name].to(self.device, copy=True) for name in self.rows}
        made.values = {name: values[name].to(self.device, copy=True) for name in self.values}
        return made


def no_ids() -> Tensor:
    """[0] int64."""
    return torch.empty(0, dtype=torch.int64)
