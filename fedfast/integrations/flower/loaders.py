"""A DataLoader's samples, read once, and the batches that it would draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Sampler,
    Subset,
    TensorDataset,
    default_collate,
)

from .unsupported import Unsupported

Unpack = Callable[[object], tuple[Tensor, Tensor]]
Pair = tuple[Tensor, Tensor]
TWICE = 64  # samples that are read a second time
AT_ONCE = 256  # samples of one collate


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's CPU generator at `seed` inside, as it was outside."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


class Samples:
    """x [n, ...] and y [n] of a loader's data set, and its batches.

    whole  whether all samples are read twice to find random transforms, or 64 of them
    Raises Unsupported where the loader cannot be read this way.
    """

    def __init__(self, loader: object, unpack: Unpack, whole: bool = False) -> None:
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            raise Unsupported(
                f"data from {type(loader).__name__}: a DataLoader over a map data set"
            )
        if loader.batch_sampler is None:
            raise Unsupported("a DataLoader without batches (batch_size=None)")
        self.loader, size = loader, len(loader.dataset)  # type: ignore[arg-type]
        stored = _stored(loader, unpack) if size else (torch.empty(0), torch.empty(0))
        with seeded(0):
            self.x, self.y = _read_twice(loader, unpack, whole) if stored is None else stored
        if len(self.x) != size or len(self.y) != size:
            raise Unsupported(f"a data set of {size} samples that gives {len(self.x)}")
        self._states = [(g, g.get_state()) for g in _generators(loader)]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def empty(self) -> bool:
        """Whether there is no sample, or no batch of them (`drop_last`)."""
        try:
            return len(self) == 0 or len(self.loader.batch_sampler) == 0  # type: ignore[arg-type]
        except TypeError:  # a sampler without a length
            return False

    def counts(self, batches: list[list[int]]) -> Counter[bytes]:
        """How often each sample is in the batches; equal inputs are the same sample."""
        rows = [row for batch in batches for row in batch]
        return Counter(self.x[row].numpy().tobytes() for row in rows)

    @property
    def bytes(self) -> int:
        """Memory of the samples."""
        return self.x.nbytes + self.y.nbytes

    def batches(self, epochs: int, seed: int) -> list[list[int]]:
        """The index batches of so many epochs of the loader, were it made anew.

        Its own generators start where they were when it was made; torch's own at `seed`.
        """
        for generator, state in self._states:
            generator.set_state(state)
        found: list[list[int]] = []
        with seeded(seed):
            for epoch in range(epochs):
                # What a new iterator of the loader draws for its workers before the first batch.
                if epoch == 0 or not self.loader.persistent_workers:
                    torch.empty((), dtype=torch.int64).random_(generator=self.loader.generator)
                found += [list(batch) for batch in self.loader.batch_sampler]  # type: ignore[union-attr]
        return found

    def fixed(self, epochs: int) -> bool:
        """Whether its batches do not depend on torch's seed."""
        return self.batches(epochs, 1) == self.batches(epochs, 2)


def _generators(loader: DataLoader[object]) -> list[torch.Generator]:
    """Every generator of the loader, its samplers, and samplers inside of them."""
    found: dict[int, torch.Generator] = {}
    waiting: list[object] = [loader]
    for holder in waiting:
        for value in vars(holder).values():
            if isinstance(value, torch.Generator):
                found[id(value)] = value
            elif isinstance(value, Sampler) and not any(value is known for known in waiting):
                waiting.append(value)
    return list(found.values())


def _read(loader: DataLoader[object], rows: Sequence[int], unpack: Unpack) -> Pair:
    """These samples, fetched and collated as a DataLoader does it."""
    dataset, parts = loader.dataset, []
    many = getattr(dataset, "__getitems__", None)
    for at in range(0, len(rows), AT_ONCE):
        part = rows[at : at + AT_ONCE]
        samples = [dataset[i] for i in part] if many is None else many(part)
        parts.append(unpack(loader.collate_fn(samples)))
    if not parts:
        raise Unsupported("a data set without samples")
    try:
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
    except RuntimeError:
        raise Unsupported("samples of different shapes") from None


def _stored(loader: DataLoader[object], unpack: Unpack) -> Pair | None:
    """The tensors of a `TensorDataset` themselves: what reading them would put together."""
    dataset: object = loader.dataset
    rows = None
    if isinstance(dataset, Subset):
        rows = list(dataset.indices)
        dataset = dataset.dataset
    plain = type(loader.dataset) in (TensorDataset, Subset) and type(dataset) is TensorDataset
    if not plain or loader.collate_fn is not default_collate:
        return None
    assert isinstance(dataset, TensorDataset)
    return unpack([t if rows is None else t[rows] for t in dataset.tensors])


def _read_twice(loader: DataLoader[object], unpack: Unpack, whole: bool) -> Pair:
    size = len(loader.dataset)  # type: ignore[arg-type]
    x, y = _read(loader, range(size), unpack)
    count = size if whole else min(size, TWICE)
    rows = np.unique(np.linspace(0, size - 1, count).astype(np.int64)).tolist()
    again = _read(loader, rows, unpack)
    if len(x) == len(y) == size and not (
        torch.equal(again[0], x[rows]) and torch.equal(again[1], y[rows])
    ):
        raise Unsupported("samples that differ when they are read again (random transforms?)")
    return x, y
