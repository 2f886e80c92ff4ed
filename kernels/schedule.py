"""Draws of the compiled module: cohorts, batches, crops and seeds, at once or by a thread ahead.

The numbers are those of Philox4x32-10 under the counter (place, purpose, client, round): bit for
bit what `fedfast/random.py` computes with NumPy, which is the reference.

A batch is a *line* of B samples. Lines of K clients of T steps at most lie

    client by client          k T + s               offsets=None, `[K, T, B]`
    step by step              offsets[s] + k        clients by descending steps, `[n, B]`

Tensors are on the CPU and contiguous. Their shapes are checked; what is in them is the caller's
business: clients in [0, 2^32), T below 2^24, steps that have a line each.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import native

Ints = NDArray[np.int64]

LIMIT = 1 << 24  # epochs, and steps: they ride above the purpose


class Draw(Protocol):
    """A draw that is not made yet; it holds its tensors."""

    def run(self) -> None:
        """Make it now, without Python's lock."""


class Lines:
    """Where the batches of `clients` clients lie: see the module's text.

    offsets  `[T + 1]` int64: line offsets[s] + k is client k's at step s
    """

    def __init__(self, clients: int, steps: int, width: int, offsets: Tensor | None = None) -> None:
        if offsets is not None and offsets.shape[0] != steps + 1:
            raise ValueError(f"offsets: expected [{steps + 1}]; got {list(offsets.shape)}")
        if not 0 <= steps < LIMIT:
            raise ValueError(f"steps: expected 0 to {LIMIT - 1}; got {steps}")
        self.clients, self.steps, self.width, self.offsets = clients, steps, width, offsets
        self.total = clients * steps if offsets is None else int(offsets.numpy()[-1])

    @property
    def place(self) -> int:
        """Where the offsets lie, 0 for none."""
        if self.offsets is None:
            return 0
        return _address("offsets", self.offsets, torch.int64, self.steps + 1)

    def bound(self) -> object:
        """The same as the compiled module has it."""
        return native.module.DrawnLines(self.clients, self.steps, self.width, self.place)


def available() -> bool:
    """Whether the compiled module is there."""
    return native.module is not None


def chosen(seed: int, round: int, eligible: Ints, m: int) -> Ints:
    """`m` of the ids `eligible` `[N]` without replacement, in the order drawn: `[m]`.

    See `fedfast.random.choose`. Raises ValueError for m beyond N.
    """
    found: Ints = native.module.chosen(seed, round, eligible, m)
    return found


def tossed(seed: int, round: int, eligible: Ints, chance: float, most: int) -> Ints:
    """Each of the ids `eligible` `[N]` with probability `chance`, in their order, `most` at most.

    See `fedfast.random.toss`.
    """
    found: Ints = native.module.tossed(seed, round, eligible, chance, most)
    return found


def batches(
    seed: int,
    round: int,
    lines: Lines,
    clients: Ints,
    sizes: Ints,
    epochs: Ints,
    *,
    batch: int | None = None,
    whole: bool = False,
    owned: tuple[Ints, Tensor, Tensor] | None = None,
) -> tuple[Draw, Tensor, Tensor]:
    """Fresh permutations of each client's samples, one per epoch, cut into batches.

    clients, sizes, epochs  `[K]` int64 each
    batch   samples of each, B by default and at most; whole: narrower ones are left out
    owned   (owners `[K]`, begins, order): whose samples they are; those of owner o are rows
            order[begins[o]] and on, int64 on the CPU. None: places from 0 on
    Returns the draw, to be made, and what it writes: rows `[lines, B]` int64, padding being a
    client's sample 0, and count `[lines]` int32, how many of a batch are real.
    See `fedfast.random.permutations`. Raises TypeError/ValueError naming the argument.
    """
    owners, begins, order = (None, None, None) if owned is None else owned
    kept, cut = (lines.offsets, begins, order), (batch or lines.width, whole)
    size = lines.clients, lines.steps, lines.width, lines.place, lines.total
    who, where = (clients, sizes, epochs, owners), _where(begins, order)
    made: Draw
    made, rows, count = native.module.draw_batches(kept, seed, round, *size, cut, *who, *where)
    return made, torch.from_numpy(rows), torch.from_numpy(count)


class WrittenBatches:
    """`batches`, drawn at once into memory that is there, again and again.

    rows, count  as `batches` returns them, of the most lines that there will be
    begins, order, batch, whole  see `batches`
    Raises TypeError/ValueError naming the argument.
    """

    def __init__(
        self, rows: Tensor, count: Tensor, begins: Tensor, order: Tensor, batch: int, whole: bool
    ) -> None:
        self.room, self.width = rows.shape
        self._kept, self._cut = (rows, count, begins, order), (batch, whole)
        to = (
            _address("rows", rows, torch.int64, 0),
            _address("count", count, torch.int32, self.room),
        )
        self._at = *_where(begins, order), *to

    def write(
        self, seed: int, round: int, lines: Lines, clients: Ints, sizes: Ints, epochs: Ints
    ) -> None:
        """The batches of `clients`, whose samples are their own."""
        if lines.total > self.room or lines.width != self.width:
            raise ValueError(
                f"lines: expected at most {self.room} of {self.width}; got {lines.total} of "
                f"{lines.width}"
            )
        size = lines.clients, lines.steps, lines.width
        who = clients, sizes, epochs, clients
        native.module.write_batches(seed, round, size, lines.place, self._cut, *who, *self._at)


def _where(begins: Tensor | None, order: Tensor | None) -> tuple[int, int]:
    """Addresses, 0 of nothing."""
    named = ("begins", begins), ("order", order)
    found = (0 if t is None else _address(name, t, torch.int64, 0) for name, t in named)
    return next(found), next(found)


def crops(
    seed: int,
    round: int,
    lines: Lines,
    clients: Tensor,
    taken: Tensor,
    offset: Tensor,
    flip: Tensor,
    *,
    pad: int,
    chance: float,
    mirrors: bool,
    per_batch: bool,
) -> Draw:
    """How images are moved, and whether they are mirrored: see `fedfast.step_draws.crops`.

    clients, taken  `[K]` int64: ids, and steps of each
    offset          `[lines, B, 2]` int32 (y, x) in [-pad, pad], and flip `[lines, B]` bool: written
    """
    n = lines.total * lines.width
    own = [_address(name, t, torch.int64, lines.clients) for name, t in _who(clients, taken)]
    to = _address("offset", offset, torch.int32, 2 * n), _address("flip", flip, torch.bool, n)
    tensors, how = (clients, taken, offset, flip, lines.offsets), (pad, chance, mirrors, per_batch)
    draw: Draw = native.module.draw_crops(tensors, seed, round, lines.bound(), *own, *how, *to)
    return draw


def seeds(seed: int, round: int, lines: Lines, clients: Tensor, taken: Tensor, out: Tensor) -> Draw:
    """A 63-bit seed of each client's step: `out` `[lines]` int64; clients, taken as in `crops`."""
    own = [_address(name, t, torch.int64, lines.clients) for name, t in _who(clients, taken)]
    to = _address("out", out, torch.int64, lines.total)
    tensors = clients, taken, out, lines.offsets
    draw: Draw = native.module.draw_seeds(tensors, seed, round, lines.bound(), *own, to)
    return draw


class Worker:
    """One thread that makes draws in the order given, and needs no Python: it takes no lock of it.

    It begins with the first draw and ends with `stop`. A forked process has none: there `finish`
    makes what is missing itself.
    """

    def __init__(self) -> None:
        self._worker = native.module.DrawWorker()

    def start(self, draw: Draw) -> None:
        """Give it a draw; its tensors are kept until it is made."""
        self._worker.start(draw)

    def finish(self, draw: Draw) -> None:
        """Wait until a draw that it was given is made. Raises what that raised."""
        self._worker.finish(draw)

    def stop(self) -> None:
        """Make what is left, and end the thread."""
        self._worker.stop()


def _who(clients: Tensor, taken: Tensor) -> tuple[tuple[str, Tensor], ...]:
    return ("clients", clients), ("taken", taken)


def _address(name: str, t: Tensor, dtype: torch.dtype, count: int) -> int:
    if t.dtype is not dtype or t.numel() < count or not t.is_contiguous() or t.is_cuda:
        raise ValueError(
            f"{name}: expected {count} contiguous numbers of {dtype} on the CPU; got "
            f"{list(t.shape)} of {t.dtype} on {t.device}, strides {t.stride()}"
        )
    return t.data_ptr()
