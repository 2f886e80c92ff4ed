"""What programs of a launch read and write, in Triton's interpreter, and whether a GPU may do it.

The interpreter runs programs one after another, so that a race looks right there. Here every
address of every load and store is kept with its program; behind the launch it is an error if

- two programs wrote one element, or one program read what another wrote: their order is nobody's;
- within a program, a barrier is missing (`program_order.py`);
- an address lies in no tensor that the launch was given;
- a sum was atomic: its order would change bits from run to run.

`install` has it for all launches of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import value_origins
from program_order import Access, Program, access
from triton.runtime import interpreter
from value_origins import Origins, origins

WARPS = 4  # of a program, where a launch says nothing
Accesses = list[tuple[int, np.ndarray]]  # (program, addresses of elements)


class Launch:
    """The loads and stores of one launch."""

    def __init__(self, name: str, tensors: list[tuple[str, torch.Tensor]], threads: int) -> None:
        self.name, self.tensors, self.threads = name, tensors, threads
        self.program, self.order = 0, Program(threads)
        self.loads: Accesses = []
        self.stores: Accesses = []

    def begin(self, program: int) -> None:
        """What follows is the program's; the one before is over."""
        self._end()
        self.program, self.order = program, Program(self.threads)

    def load(self, pointers: np.ndarray, mask: np.ndarray) -> Access | None:
        """Of a tile, by the program at hand."""
        load = self._kept(self.loads, pointers, mask)
        if load is not None:
            self._in_order(self.order.load(load), "reads", "written")
        return load

    def store(self, pointers: np.ndarray, mask: np.ndarray, origins: Origins) -> None:
        """Of a tile, by the program at hand; `origins`: of all that it takes."""
        store = self._kept(self.stores, pointers, mask)
        if store is not None:
            self._in_order(self.order.again(store), "writes", "written")
            self.order.store(store, origins)

    def _end(self) -> None:
        self._in_order(self.order.early(), "writes", "read")

    def _kept(self, to: Accesses, pointers: np.ndarray, mask: np.ndarray) -> Access | None:
        """None where all is masked."""
        touched = pointers[mask].ravel()
        to.append((self.program, touched))
        return access(pointers, mask, touched)

    def _in_order(self, early: int | None, does: str, before: str) -> None:
        if early is not None:
            raise AssertionError(
                f"{self.name}: program {self.program} {does} what its other threads may not yet "
                f"have {before}, {self._place(early)}"
            )

    def check(self) -> None:
        """Raises AssertionError naming kernel, programs and element."""
        self._end()
        read, reader = _joined(self.loads)
        written, writer = _joined(self.stores)
        self._inside(read, reader, "reads")
        self._inside(written, writer, "writes")
        if not len(written):
            return
        order = np.lexsort((writer, written))
        written, writer = written[order], writer[order]
        twice = (written[1:] == written[:-1]) & (writer[1:] != writer[:-1])
        if twice.any():
            i = int(np.argmax(twice))
            pair = f"programs {writer[i]} and {writer[i + 1]}"
            raise AssertionError(f"{self.name}: {pair} both write {self._place(written[i])}")
        # Now every element has one writer.
        at = np.minimum(np.searchsorted(written, read), len(written) - 1)
        others = (written[at] == read) & (writer[at] != reader)
        if others.any():
            i = int(np.argmax(others))
            who = f"program {reader[i]} reads what program {writer[at[i]]} writes"
            raise AssertionError(f"{self.name}: {who}, {self._place(read[i])}")

    def _inside(self, addresses: np.ndarray, program: np.ndarray, does: str) -> None:
        known = np.zeros(len(addresses), dtype=bool)
        for begin, end in {_extent(t) for _, t in self.tensors}:
            known |= (addresses >= begin) & (addresses < end)
        if not known.all():
            i = int(np.argmin(known))
            raise AssertionError(
                f"{self.name}: program {program[i]} {does} outside of every tensor, "
                f"{self._place(addresses[i])}"
            )

    def _place(self, address: int) -> str:
        """The element of the argument that begins nearest below."""
        below = [(int(address) - t.data_ptr(), name, t) for name, t in self.tensors]
        offset, name, t = min((b for b in below if b[0] >= 0), default=below[0], key=lambda b: b[0])
        return f"element {offset // t.element_size()} of {name}"


def _extent(t: torch.Tensor) -> tuple[int, int]:
    storage = t.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()


def _joined(accesses: Accesses) -> tuple[np.ndarray, np.ndarray]:
    """Each program's different addresses, side by side: (addresses, programs)."""
    if not accesses:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    addresses = np.concatenate([a for _, a in accesses])
    programs = np.repeat([p for p, _ in accesses], [len(a) for _, a in accesses])
    return addresses, programs


def _tensors(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _tensors(f"{name}[{i}]", item)


class Watch:
    """The launch that is running."""

    def __init__(self) -> None:
        self.launch: Launch | None = None

    def around(self, call: Callable[..., None]) -> Callable[..., None]:
        """A grid's launch, checked when it is over."""

        def checked(grid: Any, *args: Any, **kwargs: Any) -> None:
            named = [*zip(grid.arg_names, args, strict=False), *kwargs.items()]
            found = [pair for name, value in named for pair in _tensors(name, value)]
            threads = 32 * kwargs.get("num_warps", WARPS)
            self.launch = Launch(grid.fn.__name__, found, threads)
            try:
                call(grid, *args, **kwargs)
                self.launch.check()
            finally:
                self.launch = None

        return checked

    def at(self, move: Callable[[int, int, int], None]) -> Callable[[int, int, int], None]:
        """Programs are counted along the first axis, the only one there is."""

        def moved(x: int, y: int, z: int) -> None:
            if self.launch is not None:
                self.launch.begin(x)
            move(x, y, z)

        return moved

    def load(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Masked loads; all loads are."""

        def loaded(ptrs: Any, mask: Any, other: Any, *rest: Any) -> Any:
            value = call(ptrs, mask, other, *rest)
            load = None if self.launch is None else self.launch.load(ptrs.data, mask.data)
            value.origins = origins(ptrs, mask, other)
            if load is not None:
                value.origins = Origins(*(loads | {load.number} for loads in value.origins))
            return value

        return loaded

    def store(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Masked stores; all stores are."""

        def stored(ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
            if self.launch is not None:
                self.launch.store(ptrs.data, mask.data, origins(ptrs, value, mask))
            return call(ptrs, value, mask, *rest)

        return stored

    def barrier(self) -> None:
        """Of all threads of the program at hand."""
        if self.launch is not None:
            self.launch.order.barrier()


def _no_atomics(*_: Any, **__: Any) -> Any:
    raise AssertionError("atomic: the order of such sums changes bits from run to run")


def install() -> None:
    """Check all launches of this process."""
    watch, builder = Watch(), interpreter.interpreter_builder
    builder.set_grid_idx = watch.at(builder.set_grid_idx)
    builder.create_masked_load = watch.load(builder.create_masked_load)
    builder.create_masked_store = watch.store(builder.create_masked_store)
    builder.create_barrier = watch.barrier
    value_origins.install()
    builder.create_atomic_rmw = builder.create_atomic_cas = _no_atomics
    interpreter.GridExecutor.__call__ = watch.around(interpreter.GridExecutor.__call__)
