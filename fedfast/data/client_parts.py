"""Clients' parts of a set of samples without an object for each: one array, and where parts end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .samples import Samples

Ints = NDArray[np.int64]


def ends(sizes: Ints) -> Ints:
    """Where parts of these sizes [N] begin and the last one ends: int64 [N + 1]."""
    made = np.zeros(sizes.size + 1, dtype=np.int64)
    np.cumsum(sizes, out=made[1:])
    return made


def spans(first: Ints, sizes: Ints) -> Ints:
    """first[i], ..., first[i] + sizes[i] - 1 for every i, one after another: int64 [sum sizes]."""
    made = np.arange(int(sizes.sum()), dtype=np.int64)
    made += np.repeat(first - ends(sizes)[:-1], sizes)
    return made


@dataclass(frozen=True, eq=False)
class ClientParts(Sequence[Samples]):
    """A sequence of `Samples`, one for each client, made as they are asked for.

    samples  all parts, one after another
    offsets  [N + 1] int64 numpy: client i's are offsets[i] to offsets[i + 1], perhaps none
    """

    samples: Samples
    offsets: Ints

    @property
    def sizes(self) -> Ints:
        """Samples of each part. [N]"""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return self.offsets.size - 1

    @overload
    def __getitem__(self, i: int, /) -> Samples: ...
    @overload
    def __getitem__(self, i: slice, /) -> list[Samples]: ...
    def __getitem__(self, i: int | slice, /) -> Samples | list[Samples]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        at = range(len(self))[i]  # negative ones count from the end, others raise IndexError
        return self.samples.take(slice(int(self.offsets[at]), int(self.offsets[at + 1])))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> ClientParts:
        """The same parts on `device`, floats as `dtype`."""
        return replace(self, samples=self.samples.to(device, dtype))


def sizes_of(parts: Sequence[Samples]) -> Ints:
    """Samples of each part. [N]"""
    if isinstance(parts, ClientParts):
        return parts.sizes
    return np.array([len(part) for part in parts], dtype=np.int64)


def as_parts(parts: list[Samples]) -> Sequence[Samples]:
    """As `ClientParts` where all parts that are not empty are alike, else as they are."""
    some = [part for part in parts if len(part)] or parts[:1]
    alike = {(p.x.dtype, p.x.device, p.y.dtype, p.y.shape[1:], p.normalize) for p in some}
    if len(alike) > 1 or any(part.owner is not None for part in some):
        return parts
    x, y = torch.cat([part.x for part in some]), torch.cat([part.y for part in some])
    return ClientParts(Samples(x, y, some[0].normalize), ends(sizes_of(parts)))


def joined(xs: object, ys: object) -> tuple[object, object, Ints] | None:
    """(x, y, sizes) of all clients' arrays, one after another; None where they are not all alike.

    xs, ys  arrays `[N, n, ...]` and `[N, n]`, or N plain arrays (or tensors) of one type and shape
            `[n_i, ...]` each
    """
    if isinstance(xs, np.ndarray | Tensor) and isinstance(ys, np.ndarray | Tensor):
        if xs.ndim < 3 or ys.ndim != 2 or tuple(xs.shape[:2]) != tuple(ys.shape):
            return None
        sizes = np.full(xs.shape[0], xs.shape[1], dtype=np.int64)
        return xs.reshape(-1, *xs.shape[2:]), ys.reshape(-1), sizes
    if not isinstance(xs, list | tuple) or not isinstance(ys, list | tuple) or len(xs) != len(ys):
        return None
    both = _plain(xs), _plain(ys)
    if both[0] is None or both[1] is None or not np.array_equal(both[0], both[1]):
        return None
    join = torch.cat if isinstance(xs[0], Tensor) else np.concatenate
    other = torch.cat if isinstance(ys[0], Tensor) else np.concatenate
    return join(list(xs)), other(list(ys)), both[0]


def _plain(arrays: Sequence[object]) -> Ints | None:
    """Lengths of arrays of one kind, type and shape, None where they differ."""
    if {type(array) for array in arrays} not in ({np.ndarray}, {Tensor}):
        return None
    known = cast(Sequence[np.ndarray], arrays)
    if len({(array.dtype, array.shape[1:]) for array in known}) != 1 or known[0].ndim == 0:
        return None
    if isinstance(arrays[0], Tensor):
        tensors = cast(Sequence[Tensor], arrays)
        if any(t.requires_grad or t.layout != torch.strided or t.is_meta for t in tensors):
            return None
    return np.array([array.shape[0] for array in known], dtype=np.int64)
