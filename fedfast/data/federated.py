"""`FederatedData`: all clients' samples in one tensor: a batch of K clients is one gather."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ._concatenate import by_client, check_client, concatenate, rows_of_client, shape, test_parts
from .samples import Samples, as_samples, check_values, unchecked
from .size_limits import check_table
from .transform import Normalize, stored

CHARTED, CHARTED_CLASSES = 30, 100  # clients and classes that a notebook shows a chart of


@dataclass(frozen=True, eq=False)
class FederatedData:
    """All samples, stored once, and which client owns which.

    x        [n, ...] inputs, y [n] int64 labels: the stored samples
    order    [m] int64: rows of x and y, client after client
    offsets  [N + 1] int64: client i owns order[offsets[i]:offsets[i + 1]], perhaps nothing
    sizes    [N] int64 numpy: samples of each client
    test     None, or each client's own test part (which may be empty)
    normalize  what bytes in x become (None: x / 255)
    """

    x: Tensor
    y: Tensor
    order: Tensor
    offsets: Tensor
    sizes: np.ndarray
    test: list[Samples] | None = None
    normalize: Normalize | None = None

    @classmethod
    def from_arrays(
        cls,
        xs: Sequence[object],
        ys: Sequence[object],
        test: Sequence[object] | None = None,
        normalize: Normalize | None = None,
    ) -> FederatedData:
        """One (x, y) per client, of unequal sizes; `test` gives each client its own test part.

        xs, ys  one `[n_i, ...]` and `[n_i]` per client, as `as_samples` takes them; n_i may be 0;
                or maps {client: x} and {client: y}
        Raises ValueError naming the client whose shape, dtype, length or values do not fit.
        """
        xs, ys = by_client("xs", xs), by_client("ys", ys)
        if len(xs) == 0 or len(xs) != len(ys):
            raise ValueError(f"xs, ys: expected one per client; got {len(ys)} for {len(xs)} xs")
        parts = [unchecked(pair, f"client {i}") for i, pair in enumerate(zip(xs, ys, strict=True))]
        joined = concatenate(parts, normalize)
        sizes = np.array([len(part) for part in parts], dtype=np.int64)
        try:
            check_values(joined, "samples")
        except ValueError:
            for i, part in enumerate(parts):
                check_values(part, f"client {i}")
            raise
        return cls._of(joined, np.arange(len(joined)), sizes).with_test(test)

    @classmethod
    def from_index(
        cls,
        samples: object,
        indices: Sequence[ArrayLike] | Mapping[int, ArrayLike],
        test: Sequence[object] | Mapping[int, object] | None = None,
    ) -> FederatedData:
        """Clients that share `samples`, stored once: `indices[i]` are the rows that client i owns.

        indices  a sequence, or a map {client: rows} of the clients 0 to N - 1 in any order
        A row may belong to several clients or to none. Raises ValueError naming the client.
        """
        pool = as_samples(samples, "samples")
        owned = by_client("indices", indices)
        if len(owned) == 0:
            raise ValueError("indices: expected at least one client; got none")
        rows = [rows_of_client(i, index, len(pool)) for i, index in enumerate(owned)]
        sizes = np.array([row.size for row in rows], dtype=np.int64)
        return cls._of(pool, np.concatenate(rows), sizes).with_test(test)

    @classmethod
    def _of(cls, samples: Samples, order: np.ndarray, sizes: np.ndarray) -> FederatedData:
        if order.size == 0:
            raise ValueError(
                f"xs: expected at least one sample; all {sizes.size} clients are empty"
            )
        offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
        device = samples.x.device
        order_on = torch.from_numpy(order.astype(np.int64)).to(device)
        y, offsets = samples.y.to(device), offsets.to(device)
        return cls(samples.x, y, order_on, offsets, sizes, normalize=samples.normalize)

    def with_test(self, test: Sequence[object] | Mapping[int, object] | None) -> FederatedData:
        """The same data with one test part per client, as `from_arrays` takes them."""
        if test is None:
            return self
        parts = test_parts(test, self.samples, self.num_clients)
        return replace(self, test=parts)

    def __repr__(self) -> str:
        return (
            f"FederatedData({self.num_clients} clients of {self.sizes.min()} to {self.sizes.max()} "
            f"samples of shape [{shape(self.x)}], {self.classes} classes)"
        )

    def _repr_html_(self) -> str:
        """What notebooks show: sizes, and the classes of the first clients."""
        from ..report import html

        sizes = self.sizes
        facts = {
            "samples": f"{int(sizes.sum()):,} of shape [{shape(self.x)}], {self.x.dtype}",
            "per client": f"{sizes.min():,} to {sizes.max():,}, mean {sizes.mean():,.1f}",
            "own tests": "none" if self.test is None else f"{sum(map(len, self.test)):,} samples",
        }
        about = f"{self.num_clients:,} clients, {self.classes:,} classes"
        first = min(CHARTED, self.num_clients)
        pictures = []
        if self.y.ndim == 1 and self.classes <= CHARTED_CLASSES and sizes[:first].any():
            label = f"classes (down) of clients 0 to {first - 1} (across), shares of the largest"
            pictures.append(html.grid(label, self._first(first).counts()))
        return html.panel("FederatedData", about, facts, *pictures)

    def _first(self, n: int) -> FederatedData:
        """The first `n` clients alone, with all stored samples."""
        offsets = self.offsets[: n + 1]
        order = self.order[: int(offsets[-1])]
        return replace(self, order=order, offsets=offsets, sizes=self.sizes[:n], test=None)

    @property
    def num_clients(self) -> int:
        """N."""
        return int(self.sizes.size)

    @property
    def classes(self) -> int:
        """One more than the largest label, in the samples or in any client's test part.

        Of targets [n, C, ...] that are no class labels, C.
        """
        if self.y.ndim > 1:
            return self.y.shape[1]
        parts = [self.y, *(part.y for part in self.test or [] if len(part))]
        return 1 + max(int(y.max()) for y in parts)

    def client(self, i: int) -> Samples:
        """The samples of client `i`, in its own order (the order `Schedule` indexes): a copy."""
        check_client(i, self.num_clients)
        rows = self.order[int(self.offsets[i]) : int(self.offsets[i + 1])]
        return self.samples.take(rows)

    @property
    def samples(self) -> Samples:
        """All samples, whoever owns them."""
        return Samples(self.x, self.y, self.normalize)

    @property
    def bank(self) -> Samples:
        """Deprecated: `samples`."""
        message = "FederatedData.bank is deprecated, use .samples"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return self.samples

    def rows(self, clients: Tensor | np.ndarray, index: Tensor) -> Tensor:
        """Rows of `samples`, for `index` `[K, T, B]` into those of `clients` `[K]`: same shape.

        The result is on the device of `order`. Nothing is checked: `Schedule.check` has checked the
        indices, and the clients must have samples.
        """
        device = self.order.device
        first = self.offsets[torch.as_tensor(clients, device=device)]
        return self.order[first.view(-1, *[1] * (index.ndim - 1)) + index.to(device)]

    def pooled(self) -> FederatedData:
        """One client that owns everybody's samples; test parts are left out."""
        total = int(self.sizes.sum())
        offsets = torch.tensor([0, total], device=self.offsets.device)
        return replace(self, offsets=offsets, sizes=np.array([total]), test=None)

    def counts(self) -> np.ndarray:
        """How many samples of each class each client has: int64 `[N, classes]`.

        Raises ValueError where targets are no class labels, or the table is too large.
        """
        if self.y.ndim > 1:
            raise ValueError(f"y: expected class labels [n] to count; got {list(self.y.shape)}")
        check_table("clients", self.num_clients, self.classes - 1)
        owner = np.repeat(np.arange(self.num_clients), self.sizes)
        flat = owner * self.classes + self.y[self.order].cpu().numpy()
        counts = np.bincount(flat, minlength=self.num_clients * self.classes)
        return counts.reshape(self.num_clients, self.classes)

    def plot(self, path: str | Path, title: str | None = None) -> None:
        """Draw samples per client and class into a .png, .pdf or .svg: see `report.plots`."""
        from ..report.plots import partition

        partition(self.counts(), path, title)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> FederatedData:
        """The same data on `device`, float inputs as `dtype` (None keeps theirs)."""
        numbers = dtype or self.y.dtype
        dtype = dtype or self.x.dtype
        test = self.test and [part.to(device, dtype) for part in self.test]
        return replace(
            self,
            x=stored(self.x, device, dtype),
            y=stored(self.y, device, numbers),
            order=self.order.to(device),
            offsets=self.offsets.to(device),
            test=test,
        )
