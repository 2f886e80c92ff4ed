"""`FederatedData`: all clients' samples in one tensor: a batch of K clients is one gather."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..transfers import sent_to
from ..validation.values import Count
from ._concatenate import by_client, check_client, concatenate, shape, test_parts
from .client_index import csr_of, index_of
from .client_parts import ClientParts, ends, joined, sizes_of, spans
from .samples import Samples, as_samples, check_values, unchecked
from .size_limits import check_memory, check_table
from .transform import Normalize, stored

COUNTED = 1 << 22  # samples, and entries of a table, that are counted at once
REPEATED = 40  # bytes of a client of `repeated`, while it is made
CHARTED, CHARTED_CLASSES = 30, 100  # clients and classes that a notebook shows a chart of


@dataclass(frozen=True, eq=False)
class FederatedData:
    """All samples, stored once, and which client owns which.

    x        [n, ...] inputs, y [n] int64 labels: the stored samples
    order    [m] int64: rows of x and y, client after client
    offsets  [N + 1] int64: client i owns order[offsets[i]:][:sizes[i]], perhaps nothing; but for
             `repeated` clients it ends where client i + 1 begins
    sizes    [N] int64 numpy: samples of each client
    test     None, or each client's own test part (which may be empty): a sequence
    normalize  what bytes in x become (None: x / 255)
    """

    x: Tensor
    y: Tensor
    order: Tensor
    offsets: Tensor
    sizes: np.ndarray
    test: Sequence[Samples] | None = None
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
                or maps {client: x} and {client: y}; or, of equal sizes, `[N, n, ...]` and `[N, n]`
        Raises ValueError naming the client whose shape, dtype, length or values do not fit.
        """
        found = cls._alike(xs, ys, normalize)
        if found is not None:
            return found.with_test(test)
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
        indices: Sequence[ArrayLike] | Mapping[int, ArrayLike] | np.ndarray | Tensor,
        test: Sequence[object] | Mapping[int, object] | None = None,
    ) -> FederatedData:
        """Clients that share `samples`, stored once: `indices[i]` are the rows that client i owns.

        indices  a sequence, or a map {client: rows} of the clients 0 to N - 1 in any order, or
                 integers `[N, n]`, n rows of each
        A row may belong to several clients or to none. Raises ValueError naming the client.
        """
        pool = as_samples(samples, "samples")
        return cls._of(pool, *index_of(indices, len(pool))).with_test(test)

    @classmethod
    def from_csr(
        cls,
        samples: object,
        offsets: ArrayLike,
        order: ArrayLike | None = None,
        test: Sequence[object] | Mapping[int, object] | None = None,
    ) -> FederatedData:
        """The same in two arrays, for very many clients.

        offsets  `[N + 1]` integers from 0 on: client i owns order[offsets[i]:offsets[i + 1]]
        order    `[m]` rows of `samples`, client after client; None: 0, 1, 2, ...
        Raises ValueError naming the array, or the client whose rows are out of range.
        """
        pool = as_samples(samples, "samples")
        return cls._of(pool, *csr_of(order, offsets, len(pool))).with_test(test)

    @classmethod
    def _alike(cls, xs: object, ys: object, normalize: Normalize | None) -> FederatedData | None:
        """Of clients whose arrays are all alike, at once; None where something is to be said."""
        try:
            found = joined(xs, ys)
            if found is None:
                return None
            pool = as_samples(found[:2], "samples")
            pool = replace(pool, normalize=normalize)
            if normalize is not None:
                normalize.check("client 0.x", pool.x)
        except (TypeError, ValueError, AttributeError, RuntimeError):
            return None
        return cls._of(pool, np.arange(len(pool)), found[2])

    @classmethod
    def _of(cls, samples: Samples, order: np.ndarray, sizes: np.ndarray) -> FederatedData:
        """order: int64, which nobody else holds."""
        if order.size == 0:
            raise ValueError(
                f"xs: expected at least one sample; all {sizes.size} clients are empty"
            )
        device = samples.x.device
        order_on = torch.from_numpy(order).to(device)
        offsets = torch.from_numpy(ends(sizes)).to(device)
        y = samples.y.to(device)
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
            "own tests": "none" if self.test is None else f"{sizes_of(self.test).sum():,} samples",
        }
        about = f"{self.num_clients:,} clients, {self.classes:,} classes"
        first = min(CHARTED, self.num_clients)
        pictures = []
        if self.y.ndim == 1 and self.classes <= CHARTED_CLASSES and sizes[:first].any():
            label = f"classes (down) of clients 0 to {first - 1} (across), shares of the largest"
            pictures.append(html.grid(label, self.counts(first)))
        return html.panel("FederatedData", about, facts, *pictures)

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
        parts = [self.test.samples] if isinstance(self.test, ClientParts) else self.test or []
        return 1 + max(int(y.max()) for y in (self.y, *(part.y for part in parts if len(part))))

    def client(self, i: int) -> Samples:
        """The samples of client `i`, in its own order (the order `Schedule` indexes): a copy."""
        check_client(i, self.num_clients)
        first = int(self.offsets[i])
        return self.samples.take(self.order[first : first + int(self.sizes[i])])

    def repeated(self, clients: int) -> FederatedData:
        """So many clients, client i with the rows of this data's client i mod N: no index is made.

        For studies of scale: what N clients cost does not depend on whose samples they have. Test
        parts are left out. Raises ValueError for more than fit into memory.
        """
        Count()("clients", clients)
        check_memory("clients", REPEATED * clients)
        of = np.arange(clients) % self.num_clients
        sizes, first = self.sizes[of], self.offsets[torch.from_numpy(of)]
        offsets = torch.cat([first, first[-1:] + int(sizes[-1])])
        return replace(self, offsets=offsets, sizes=sizes, test=None)

    def owned(self, first: int = 0, last: int | None = None) -> Tensor:
        """Rows of `samples` that the clients from `first` up to `last` own, one after another."""
        last = self.num_clients if last is None else last
        sizes, a, b = self.sizes[first:last], int(self.offsets[first]), int(self.offsets[last])
        if b - a == int(sizes.sum()):
            return self.order[a:b]
        begin = self.offsets[first:last].cpu().numpy()  # repeated clients
        return self.order[torch.from_numpy(spans(begin, sizes)).to(self.order.device)]

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
        first = self.offsets[sent_to(torch.as_tensor(clients), device)]
        return self.order[first.view(-1, *[1] * (index.ndim - 1)) + sent_to(index, device)]

    def pooled(self) -> FederatedData:
        """One client that owns everybody's samples; test parts are left out."""
        order = self.owned()
        offsets = torch.tensor([0, len(order)], device=self.offsets.device)
        return replace(self, order=order, offsets=offsets, sizes=np.array([len(order)]), test=None)

    def counts(self, first: int | None = None) -> np.ndarray:
        """How many samples of each class each client has: int64 `[N, classes]`.

        first  so many clients alone, the first ones
        Raises ValueError where targets are no class labels, or the table is too large.
        """
        many = self.num_clients if first is None else min(first, self.num_clients)
        if self.y.ndim == 1:
            check_table("clients", many, self.classes - 1)
        return np.concatenate([counts for _, counts in self.counted(many)])

    def counted(self, first: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """(which clients, their samples of each class): blocks of `counts`, one after another."""
        if self.y.ndim > 1:
            raise ValueError(f"y: expected class labels [n] to count; got {list(self.y.shape)}")
        classes, up_to = self.classes, ends(self.sizes)
        a, stop = 0, self.num_clients if first is None else first
        while a < stop:
            # So many clients that neither their samples nor their table take much memory.
            fits = int(np.searchsorted(up_to, up_to[a] + COUNTED, side="right")) - 1
            b = max(a + 1, min(fits, a + COUNTED // classes, stop))
            label = self.y[self.owned(a, b)].cpu().numpy()
            flat = np.repeat(np.arange(b - a) * classes, self.sizes[a:b]) + label
            counts = np.bincount(flat, minlength=(b - a) * classes)
            yield slice(a, b), counts.reshape(b - a, classes)
            a = b

    def plot(self, path: str | Path, title: str | None = None) -> None:
        """Draw samples per client and class into a .png, .pdf or .svg: see `report.plots`."""
        from ..report.plots import partition

        partition(self.counts(), path, title)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> FederatedData:
        """The same data on `device`, float inputs as `dtype` (None keeps theirs)."""
        numbers = dtype or self.y.dtype
        dtype = dtype or self.x.dtype
        test = self.test
        if test is not None:
            whole = test.to(device, dtype) if isinstance(test, ClientParts) else None
            test = whole or [part.to(device, dtype) for part in test]
        return replace(
            self,
            x=stored(self.x, device, dtype),
            y=stored(self.y, device, numbers),
            order=self.order.to(device),
            offsets=self.offsets.to(device),
            test=test,
        )
