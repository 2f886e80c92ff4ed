"""Which mini-batches a function draws: every DataLoader is watched while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps

import torch
from torch import Tensor, nn
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

    double  gives float64 batches, and makes modules float64 that load a state dict (not all new
            tensors: data that is made anew stays what it is)
    """
    original, loading, seen = DataLoader.__iter__, nn.Module.load_state_dict, Seen()

    def watched(loader: DataLoader[object]) -> Iterator[object]:
        for batch in original(loader):
            if torch.is_grad_enabled():
                x, y = unpack(batch)
                seen.batches.append((x.clone(), y.clone()))
            yield doubled(batch) if double else batch

    @wraps(loading)
    def doubled_first(module: nn.Module, *args: object, **options: object) -> object:
        return loading(module.double(), *args, **options)  # type: ignore[arg-type]

    DataLoader.__iter__ = watched  # type: ignore[method-assign,assignment]
    if double:
        nn.Module.load_state_dict = doubled_first  # type: ignore[method-assign,assignment]
    try:
        yield seen
    finally:
        DataLoader.__iter__ = original  # type: ignore[method-assign]
        nn.Module.load_state_dict = loading  # type: ignore[method-assign]


def rows_of(batches: list[Batch], x: Tensor, y: Tensor) -> list[list[int]] | None:
    """The rows of (x [n, ...], y [n]) that each batch holds, None where one is not there.

    Equal samples are told apart by nothing: any of them will do.
    """
    where = {_key(a, b): i for i, (a, b) in enumerate(zip(x, y, strict=True))}
    found = [[where.get(_key(a, b), -1) for a, b in zip(*batch, strict=True)] for batch in batches]
    return None if any(-1 in rows for rows in found) else found


def _key(x: Tensor, y: Tensor) -> tuple[bytes, bytes]:
    return x.contiguous().numpy().tobytes(), y.contiguous().numpy().tobytes()
