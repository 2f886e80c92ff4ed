"""Memory that an operation writes must not be what it reads, or writes, elsewhere.

A tensor `[K, ...]` is seen as K runs of bytes, one for each client, `pitch` bytes apart. Two of
them share memory if a run of one crosses a run of the other: `bank[:, :T]` and `bank[:, T:]` do
not, though their ranges of addresses do. The very same runs are fine for pairs that an operation
documents ("may be"), since each element is then read before it is written.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import NamedTuple

from torch import Tensor

from .declaration import Operation
from .placed import PlacedRows, RowsLike

_PLAIN = {type(None), bool, int, float, str}


class Trust(threading.local):
    """Whether this thread's operands are known to lie apart."""

    given = False


trust = Trust()


@contextmanager
def apart_by_construction(known: bool = True) -> Iterator[None]:
    """No overlap is looked for inside, if `known`: a round's buffers are laid out apart once, and
    looking again at every local step would cost as much as a small operation."""
    before, trust.given = trust.given, known
    try:
        yield
    finally:
        trust.given = before


class Runs(NamedTuple):
    """`clients` runs of `size` bytes, the first at `start`, `pitch` bytes from one to the next."""

    start: int
    clients: int
    size: int
    pitch: int

    @property
    def stop(self) -> int:
        """One past the last byte."""
        return self.start + (self.clients - 1) * self.pitch + self.size

    def meets(self, other: Runs) -> bool:
        """Whether some byte belongs to both."""
        if not (self.start < other.stop and other.start < self.stop):
            return False
        if self.pitch == other.pitch >= max(self.size, other.size):
            apart = (other.start - self.start) % self.pitch
            if self.size <= apart <= self.pitch - other.size:
                return False
        return any(
            self.start + i * self.pitch < other.start + j * other.pitch + other.size
            and other.start + j * other.pitch < self.start + i * self.pitch + self.size
            for i in range(self.clients)
            for j in other.near(self.start + i * self.pitch, self.size)
        )

    def near(self, start: int, size: int) -> range:
        """The runs that can cross the `size` bytes at `start`."""
        if self.pitch == 0:
            return range(1)
        first = max(0, (start - self.start - self.size) // self.pitch)
        return range(first, min(self.clients, (start + size - self.start) // self.pitch + 1))

    def is_same(self, other: Runs) -> bool:
        """Whether run k of both is the same bytes; one run is also one that all clients share."""
        if (self.start, self.size) != (other.start, other.size):
            return False
        if self.clients == 1:
            return other.clients == 1 or other.pitch == 0
        return (self.clients, self.pitch) == (other.clients, other.pitch)


class Scattered(NamedTuple):
    """Runs of `size` bytes wherever they start, in the order of clients."""

    starts: tuple[int, ...]
    size: int


Places = Runs | Scattered


def crosses_itself(here: Places) -> bool:
    """Whether two clients' runs share memory."""
    if isinstance(here, Runs):
        return here.clients > 1 and here.pitch < here.size
    ordered = sorted(here.starts)
    return any(b - a < here.size for a, b in zip(ordered, ordered[1:], strict=False))


def meet(one: Places, other: Places) -> bool:
    """Whether some byte belongs to both."""
    if isinstance(one, Runs) and isinstance(other, Runs):
        return one.meets(other)
    sides = enumerate((_scattered(one), _scattered(other)))
    spans = sorted((s, s + of.size, side) for side, of in sides for s in of.starts)
    ends = [0, 0]  # the last byte so far of each side's runs
    for start, stop, side in spans:
        if start < ends[1 - side]:
            return True
        ends[side] = max(ends[side], stop)
    return False


def are_same(one: Places, other: Places) -> bool:
    """Whether run k of both is the same bytes."""
    if isinstance(one, Runs) and isinstance(other, Runs):
        return one.is_same(other)
    return _scattered(one) == _scattered(other)


def _scattered(of: Places) -> Scattered:
    if isinstance(of, Scattered):
        return of
    return Scattered(tuple(of.start + k * of.pitch for k in range(of.clients)), of.size)


def runs_of(value: RowsLike) -> Places:
    """The memory of an operand, client by client."""
    if not isinstance(value, PlacedRows):
        return runs(value)
    table, item = value.table, value.table.element_size()
    first, pitch = table.data_ptr(), table.stride(0) * item
    return Scattered(tuple(first + p * pitch for p in value.places.tolist()), value.shape[1] * item)


def runs(t: Tensor) -> Runs:
    """The memory of a tensor, client by client; what lies between a client's elements counts."""
    sizes, strides, item = t.shape, t.stride(), t.element_size()
    inner = 1 + sum((n - 1) * s for n, s in zip(sizes[1:], strides[1:], strict=True))
    if not sizes:
        return Runs(t.data_ptr(), 1, item, 0)
    return Runs(t.data_ptr(), sizes[0], inner * item, strides[0] * item)


def check_overlap(operation: Operation, args: tuple[object, ...]) -> None:
    """Raise ValueError naming both arguments where `operation` would write what it also reads.

    args   of an implementation, in order
    One pass over addresses in the usual case, where all ranges lie apart; none where the caller
    knows that they do (`apart_by_construction`). The compiled module does this pass itself.
    """
    if trust.given:
        return
    for at, may in operation.places:
        to = args[at]
        if to is not None and _suspected(to, at, may, args):
            examine(operation, args)
            return


def _suspected(to: object, at: int, may: tuple[int, ...], args: tuple[object, ...]) -> bool:
    if not isinstance(to, Tensor):
        return True
    low = to.data_ptr()
    if low == 0:  # nothing is there: no elements, or no memory at all ("meta")
        return False
    item, rows = to.element_size(), to.shape[0]
    size = to.numel() // rows if rows else 0
    pitch = to.stride(0)
    if rows > 1 and pitch < size:
        return True
    high = low + ((rows - 1) * pitch + size) * item
    for place, other in enumerate(args):
        if other.__class__ in _PLAIN or place == at or (other is to and place in may):
            continue
        for inner in tensors(other):
            if inner is to and place in may:
                continue
            start = inner.data_ptr()
            if start < high and (start >= low or _end(inner, start) > low):
                return True
    return False


def _end(t: Tensor, start: int) -> int:
    if t.is_contiguous():
        return start + t.nbytes
    return runs(t).stop


def tensors(value: object) -> list[Tensor]:
    """Every tensor in an argument."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in tensors(item)]
    return [t for t in vars(value).values() if isinstance(t, Tensor)] if is_dataclass(value) else []


def _inside(name: str, value: object) -> Iterator[tuple[str, RowsLike]]:
    """(name, operand) of every tensor in an argument."""
    if isinstance(value, Tensor | PlacedRows):
        yield name, value
    elif is_dataclass(value):
        for part, item in vars(value).items():
            yield from _inside(part, item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            if name == "terms":
                yield f"{name}[{i}]", item[0]
                yield f"{name}[{i}] coefficient", item[1]
            else:
                yield from _inside(f"{name}[{i}]", item)


def examine(operation: Operation, args: tuple[object, ...]) -> None:
    """`check_overlap`, run by run."""
    found = [
        (own, label, t, runs_of(t))
        for own, value in zip(operation.names, args, strict=True)
        for label, t in _inside(own, value)
        if t.numel() and t.device.type != "meta"
    ]
    written = operation.writes
    for place, (own, label, t, here) in enumerate(found):
        if own not in written:
            continue
        if crosses_itself(here):
            raise ValueError(
                f"{label}: expected memory of its own for every client; got shape "
                f"{list(t.shape)}, {_lying(t)}"
            )
        for before, (other_own, other_label, other, there) in enumerate(found):
            both = other_own in written
            if before == place or t.device != other.device or (both and before > place):
                continue
            if not meet(here, there):
                continue
            fine = other_own in written[own] and t.dtype == other.dtype
            if not (fine and are_same(here, there)):
                raise ValueError(_message(label, other_label, fine))


def _lying(t: RowsLike) -> str:
    return f"places {t.places.tolist()}" if isinstance(t, PlacedRows) else f"strides {t.stride()}"


def _message(label: str, other: str, may: bool) -> str:
    wanted = "memory apart from" if not may else "the very memory of, or memory apart from,"
    return f"{label}: expected {wanted} {other}; got tensors that overlap"
