"""Samples given for one call of `Cohort.train`, put one after another in memory that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._messages import format_value
from .client_samples import ClientSamples
from .data import FederatedData, Samples
from .data._concatenate import by_client, shape
from .data.samples import check_values, unchecked
from .design import Design
from .random import Ints

Parts = Sequence[tuple[Tensor, Tensor]]


class CallSamples:
    """Owns the memory that samples of a call are copied to, which lie there until the next call.

    Always the same memory, unless it must grow: operations recorded for it are run again.
    """

    def __init__(self, design: Design) -> None:
        self.tried, self.normalize = design.tried, design.data.normalize
        self.x, self.y = (t[:0].clone() for t in (design.data.x, design.data.y))
        self._order = torch.arange(0, device=self.y.device)

    def of(self, ids: Ints, given: Whole | Parts) -> ClientSamples:
        """Samples of the clients `ids` [C], as `entries` gave them.

        Raises TypeError/ValueError naming the entry of `data`.
        """
        if len(given) != len(ids):
            raise ValueError(f"data: expected one entry per client, {len(ids)}; got {len(given)}")
        sizes = self._copy(given.data) if isinstance(given, Whole) else self._join(given)
        offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]))
        offsets = offsets.to(self._order.device)
        data = FederatedData(self.x, self.y, self._order, offsets, sizes, normalize=self.normalize)
        return ClientSamples(data, ids)

    def check(self, samples: ClientSamples) -> None:
        """Raise ValueError at the first client of a call's samples with a value not finite."""
        data, ends = samples.data, samples.data.offsets.tolist()
        for j, (a, b) in enumerate(zip(ends, ends[1:], strict=False)):
            check_values(Samples(data.x[a:b], data.y[a:b]), f"data[{j}]")

    @torch.no_grad()
    def _copy(self, data: FederatedData) -> np.ndarray:
        self._check_part("data", data.x, data.y)
        if data.x.dtype == torch.uint8 and data.normalize != self.normalize:
            raise ValueError(
                f"data: expected bytes normalized by {self.normalize}; got {data.normalize}"
            )
        x, y = self._room(len(data.order))
        for source, into in ((data.x, x), (data.y, y)):
            if source.dtype == into.dtype and source.device == into.device:
                torch.index_select(source, 0, data.order, out=into)
            else:
                into.copy_(source[data.order])
        self._check_labels(y, data.sizes)
        return data.sizes

    @torch.no_grad()
    def _join(self, parts: Parts) -> np.ndarray:
        # `shape[0]`: a tensor's `len` is Python code, and there are hundreds of clients.
        sizes = np.array([y.shape[0] for _, y in parts], dtype=np.int64)
        for j in np.flatnonzero(sizes).tolist():
            self._check_part(f"data[{j}]", *parts[j])
        if not sizes.all():
            parts = [(x, y) if len(x) else (self.x[:0], self.y[:0]) for x, y in parts]
        into = self._room(int(sizes.sum()))
        for out, tensors in zip(into, zip(*parts, strict=True), strict=True):
            _concatenate(tensors, sizes, out)
        self._check_labels(into[1], sizes)
        return sizes

    def _check_part(self, name: str, x: Tensor, y: Tensor) -> None:
        floats = x.is_floating_point() and self.x.is_floating_point()
        if x.shape[1:] != self.x.shape[1:] or not (x.dtype == self.x.dtype or floats):
            raise ValueError(
                f"{name}.x: expected samples of shape [{shape(self.x)}], {self.x.dtype}; "
                f"got [{shape(x)}], {x.dtype}"
            )
        if y.shape[1:] != self.y.shape[1:] or y.is_floating_point() != self.y.is_floating_point():
            raise ValueError(
                f"{name}.y: expected targets {['n', *self.y.shape[1:]]} {self.y.dtype}; "
                f"got {list(y.shape)} {y.dtype}"
            )

    def _check_labels(self, y: Tensor, sizes: np.ndarray) -> None:
        if y.ndim == 1 and len(y) and int(y.min()) < 0:
            for j, part in enumerate(y.split(sizes.tolist())):
                check_values(Samples(part[:, None], part), f"data[{j}]")
        self.tried.check_labels("data", y)

    def _room(self, n: int) -> tuple[Tensor, Tensor]:
        """Memory for so many samples and labels."""
        if n > len(self.x):
            size = max(n, len(self.x) + len(self.x) // 4)
            self.x = self.x.new_zeros(size, *self.x.shape[1:])
            self.y = self.y.new_zeros(size, *self.y.shape[1:])
            self._order = torch.arange(size, device=self.y.device)
        return self.x[:n], self.y[:n]


@dataclass(frozen=True)
class Whole:
    """A call's samples that came as FederatedData, as long as it has clients."""

    data: FederatedData

    def __len__(self) -> int:
        return self.data.num_clients


def entries(given: object) -> Whole | Parts:
    """A call's samples: FederatedData, or (x, y) of each client as tensors, perhaps of length 0.

    Raises TypeError/ValueError naming the entry.
    """
    if isinstance(given, FederatedData):
        return Whole(given)
    parts = [_pair(pair, f"data[{j}]") for j, pair in enumerate(by_client("data", given))]
    if not parts:
        raise ValueError("data: expected at least one client; got none")
    return parts


def federated(given: Whole | Parts, dtype: torch.dtype) -> FederatedData:
    """All of a first call's samples, checked value by value; floats as `dtype`."""
    if isinstance(given, Whole):
        return given.data
    if not any(len(y) for _, y in given):
        raise ValueError("data: expected samples in the first call; got none")
    xs, ys = zip(*given, strict=True)
    xs = tuple(x.to(dtype) if x.is_floating_point() else x for x in xs)
    return FederatedData.from_arrays(xs, ys)


def _pair(given: object, name: str) -> tuple[Tensor, Tensor]:
    if isinstance(given, tuple) and len(given) == 2:
        x, y = given
        plain = isinstance(x, Tensor) and isinstance(y, Tensor) and x.ndim > 1 and y.ndim == 1
        # Without the many checks of other forms, for a call with a hundred clients.
        if plain and x.layout == y.layout == torch.strided and y.dtype == torch.int64:
            if x.shape[0] != y.shape[0]:
                raise ValueError(f"{name}.y: expected shape [{len(x)}]; got {list(y.shape)}")
            return x, y
    if isinstance(given, str | bytes):
        raise TypeError(f"{name}: expected (x, y); got {format_value(given)}")
    samples = unchecked(given, name)
    return samples.x, samples.y


def _concatenate(tensors: tuple[Tensor, ...], sizes: np.ndarray, out: Tensor) -> None:
    kinds = {(t.dtype, t.device) for t in tensors}
    if kinds == {(out.dtype, out.device)}:
        torch.cat(tensors, out=out)
    elif len(kinds) == 1:
        out.copy_(torch.cat(tensors))  # a transfer for all
    else:
        for part, tensor in zip(out.split(sizes.tolist()), tensors, strict=True):
            part.copy_(tensor)
