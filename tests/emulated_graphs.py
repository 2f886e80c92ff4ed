"""CUDA graphs on the emulated device: what was captured is repeated, on the same addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from emulated_cuda import Device
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map

Step = Callable[[], None]


@dataclass
class Address:
    """Where a tensor lay; it keeps nothing alive, as a graph keeps nothing alive."""

    storage: StorageWeakRef
    dtype: torch.dtype
    shape: tuple[torch.Size, tuple[int, ...], int]

    @classmethod
    def of(cls, t: Tensor) -> Address:
        """Of this one."""
        shape = t.shape, t.stride(), t.storage_offset()
        return cls(StorageWeakRef(t.untyped_storage()), t.dtype, shape)

    def tensor(self) -> Tensor:
        """What lies there now."""
        storage = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        if storage is None:
            raise RuntimeError("a graph reads or writes memory that was freed")
        size, stride, offset = self.shape
        return torch.empty(0, dtype=self.dtype).set_(storage, offset, size, stride)


class Capture:
    """The operations of one step, in order."""

    def __init__(self) -> None:
        self.kernels = 0
        self._calls: list[Callable[[], None]] = []
        self._pool: list[Tensor] = []
        self._own: set[int] = set()

    def owns(self, t: Tensor) -> None:
        """t was allocated within: the graph's pool keeps it."""
        self._pool.append(t)
        self._own.add(t.untyped_storage().data_ptr())

    def add(self, function: Callable[..., Any], args: Any, kwargs: Any, out: Any = None) -> None:
        """A call, and what it wrote to where that is a tensor."""
        self.kernels += 1
        args, kwargs, out = (tree_map(self._addressed, each) for each in (args, kwargs, out))

        def again() -> None:
            found = function(*tree_map(_now, args), **tree_map(_now, kwargs))
            _into(found, out)

        self._calls.append(again)

    def run(self) -> None:
        """All of it once more."""
        for call in self._calls:
            call()

    def _addressed(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.untyped_storage().data_ptr() in self._own:
            return value
        if value.ndim == 0:  # a number of the host's, as it was
            return value.clone() if not value.numel() else Address.of(value)
        return Address.of(value)


def _now(value: Any) -> Any:
    return value.tensor() if isinstance(value, Address) else value


def _into(found: Any, out: Any) -> None:
    for made, to in zip(*(x if isinstance(x, tuple) else (x,) for x in (found, out)), strict=False):
        to = _now(to)
        if isinstance(made, Tensor) and isinstance(to, Tensor):
            if made.data_ptr() != to.data_ptr():
                to.copy_(made)


class Graphs:
    """A recorder of steps for `Replay`."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.captures: list[Capture] = []
        self.replays = 0

    def record(self, step: Step) -> Step:
        """Unlike a capture it runs the step while it records: the first replay is that run."""
        capture, device = Capture(), self.device
        device.capture = capture
        before = device.events.copy()
        try:
            step()
        finally:
            device.capture = None
        self.captures.append(capture)
        device.graphs.append(capture.kernels)
        done = device.events - before
        device.events = before
        device.captured.update(done)
        names = {name: times for (kind, name), times in done.items() if kind == "launch"}
        device.launched.append(Counter(names))
        first = [True]

        def replay() -> None:
            device.note("launch", "graph")
            if first:
                first.clear()
                return
            self.replays += 1
            if device.computes:
                with _disable_current_modes():
                    capture.run()

        return replay
