"""Which mini-batches a function draws: every DataLoader is watched while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .samples import doubled

Batch = tuple[Tensor, Tensor]


@dataclass
class Seen:
    """The batches that were drawn for training, that is, with gradients enabled."""

    batches: list[Batch] = field(default_factory=list)

    @property
    def sizes(self) -> list[int]:
        """Samples of each."""
        return [len(y) for _, y in self.batches]


@contextmanager
def watching(unpack: Callable[[object], Batch], double: bool = False) -> Iterator[Seen]:
    """Copies of the training batches drawn inside.

    double  gives float64 batches, and makes it the default type
    """
    original, seen, dtype = DataLoader.__iter__, Seen(), torch.get_default_dtype()

    def watched(loader: DataLoader[object]) -> Iterator[object]:
        for batch in original(loader):
            if torch.is_grad_enabled():
                x, y = unpack(batch)
                seen.batches.append((x.clone(), y.clone()))
            yield doubled(batch) if double else batch

    DataLoader.__iter__ = watched  # type: ignore[method-assign,assignment]
    torch.set_default_dtype(torch.float64 if double else dtype)
    try:
        yield seen
    finally:
        DataLoader.__iter__ = original  # type: ignore[method-assign]
        torch.set_default_dtype(dtype)


def rows_of(batches: list[Batch], x: Tensor, y: Tensor) -> list[list[int]] | None:
    """The rows of (x [n, ...], y [n]) that each batch holds, None where one is not there.

    Equal samples are told apart by nothing: any of them will do.
    """
    where = {_key(a, b): i for i, (a, b) in enumerate(zip(x, y, strict=True))}
    found = [[where.get(_key(a, b), -1) for a, b in zip(*batch, strict=True)] for batch in batches]
    return None if any(-1 in rows for rows in found) else found


def _key(x: Tensor, y: Tensor) -> tuple[bytes, bytes]:
    return x.contiguous().numpy().tobytes(), y.contiguous().numpy().tobytes()
