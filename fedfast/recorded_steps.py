"""What recorded steps of a chunk read, at addresses that stay (`programs/cuda_graph.py`).

Once per chunk: its batches, the model sent, the server's rows and the numbers of the round and of
all steps are copied to their places. Within each step, and so recorded with it: its first launch
fetches the batch that counters on the device name, its last one adds up the losses and moves the
counters on, and with them the numbers of the step (`hook_numbers.py`).
Between two steps the host does nothing but ask for the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from . import kernels
from .algorithms.client_view import Clients, NamedRows
from .batches import ChunkBatches, Minibatch
from .held_tensors import HeldTensors
from .hook_numbers import HookNumbers
from .kernels.packing import Packed, Tally
from .kernels.placed import PlacedRows
from .programs.cuda_graph import Recorder, Replay

Fetch = Callable[[Packed], Minibatch]
TABLES = ("rows", "count", "seeds", "offset", "flip")  # of packed batches, a line each


class RecordedSteps:
    """Of up to as many clients as `losses` [K] has.

    endings  whether a step differs with the number of clients that go on after it
    fetch    a step's batch
    """

    def __init__(
        self, recorder: Recorder, losses: Tensor, endings: bool, fetch: Fetch, backend: str
    ) -> None:
        self.replay, self.endings, self.losses = Replay(recorder), endings, losses
        self.fetch, self.backend = fetch, backend
        device = losses.device
        self.held, self.numbers = HeldTensors(device), HookNumbers(losses)
        # [K + 1]: where in the tables each client's next batch is, and which step comes next.
        self._order = torch.arange(len(losses) + 1, device=device)
        self._order[-1] = 0
        self._counters = self._order.clone()
        self.lines, self.step = self._counters[:-1], self._counters[-1]
        self.total = torch.zeros(2, len(losses), dtype=torch.float64, device=device)
        self._placed: tuple[int, ...] = ()
        self._noise: Tensor | None = None  # of the step at hand

    def forget(self) -> None:
        """The samples lie elsewhere now."""
        self.replay.forget()

    def begin(
        self, start: Tensor, batches: ChunkBatches, at: Clients, drawn: Tensor | None = None
    ) -> RecordedChunk:
        """A chunk from the row `start` [S], after the hooks that come before its first step.

        drawn  [n, ...], what the optimizer has drawn for each batch
        """
        self._rewind(batches)
        if drawn is not None:
            table = self.held.put("noise", drawn)
            if self._noise is None:
                self._noise = table.new_zeros(len(self.losses), *table.shape[1:])
        own, still = at.w.data_ptr() != at.start.data_ptr(), self._still(start, at)
        self.numbers.begin(still, len(batches.active))
        placed = tuple(
            rows.table.data_ptr()
            for named in (at.came, at.kept)
            for rows in named.values()
            if isinstance(rows, PlacedRows)
        )
        if placed != self._placed:
            self.replay.forget()
        self._placed = placed
        self.forget_moved()
        return RecordedChunk(self, still, own)

    def begin_tuning(self, batches: ChunkBatches) -> None:
        """A chunk whose steps read its batches alone, beside what stays where it is."""
        self._rewind(batches)
        self.forget_moved()

    def tune(self, count: int, step: Callable[[Minibatch], None]) -> None:
        """The next step of the first `count` clients of such a chunk."""

        def work() -> None:
            batch = self.batch(count)
            step(batch)
            self.end(count, batch.count)

        self.replay.run(count, work)

    def forget_moved(self) -> None:
        """Forget recordings where what they read lies elsewhere now."""
        if self.held.moved or self.numbers.moved:
            self.replay.forget()
        self.held.moved = self.numbers.moved = False

    def batch(self, count: int) -> Minibatch:
        """That of the step at hand, of the first `count` clients."""
        held = {name: self.held.whole(name) for name in TABLES if name in self.held}
        return self.fetch(Packed(lines=self.lines[:count], **held))

    def noise(self, count: int) -> Tensor | None:
        """What was drawn for the step at hand of the first `count` clients. [K, ...]"""
        if self._noise is None:
            return None
        table, out = self.held.whole("noise").flatten(1), self._noise[:count]
        lines, into = self.lines[:count, None], out.view(count, 1, -1)
        kernels.gather(table, lines, out=into, backend=self.backend)
        return out

    def end(self, count: int, seen: Tensor) -> None:
        """Behind a step of the first `count` clients, on `seen` [K] samples each."""
        own = self.losses[:count], seen, self.total[:, :count], self.lines[:count]
        kernels.advance(Tally(*own, self.step), self.numbers.turned(count), self.backend)

    def _rewind(self, batches: ChunkBatches) -> None:
        """To the first step of a chunk with these batches."""
        self._counters.copy_(self._order)
        self.total.zero_()
        self._hold_batches(batches)

    def _hold_batches(self, batches: ChunkBatches) -> None:
        """One line per client and step: each table as long as the longest chunk so far."""
        drawn = batches.draws
        offset, flip = (None, None) if drawn is None else (drawn.offset, drawn.flip)
        given = batches.rows, batches.count, batches.seeds, offset, flip
        for name, table in zip(TABLES, given, strict=True):
            if table is not None:
                self.held.put(name, table)

    def _still(self, start: Tensor, at: Clients) -> Clients:
        """The same clients, with copies for whatever is another tensor or number in each round."""
        room = len(self.losses)
        put, each = partial(self.held.put, least=room), partial(self.held.each, room=room)
        row = self.held.put("start", start)[: at.start.shape[0]]
        loss = at.start_loss
        return replace(
            at,
            start=row,
            sizes=each("sizes", at.sizes, len(at)),
            steps=each("steps", at.steps, len(at)),
            lr_total=each("lr_total", at.lr_total, len(at)),
            epochs=each("epochs", at.epochs, len(at)),
            lr=each("lr", at.lr, len(at)),
            start_loss=None if loss is None else put("start_loss", loss),
            values=NamedRows({n: put(f"value {n}", t) for n, t in at.values.items()}),
            server={n: self.held.put(f"server {n}", t) for n, t in at.server.items()},
            # Numbers of the server's, in its own precision; hooks compute with them as they are.
            scalars=cast(
                "dict[str, float]",
                {n: self.held.number(f"scalar {n}", c) for n, c in at.scalars.items()},
            ),
            numbers=self.numbers,
        )


@dataclass(frozen=True)
class RecordedChunk:
    """A chunk in training.

    at   its clients, as recorded steps see them
    own  whether they start at models of their own
    """

    steps: RecordedSteps
    at: Clients
    own: bool

    def run(
        self, s: int, count: int, going: int, step: Callable[[Clients, Minibatch], None]
    ) -> None:
        """Step `s` of the first `count` clients, of whom `going` go on.

        step  reads live buffers and what it is given alone; `at.w` it sets itself after the first
        """
        fresh, self.steps.numbers.step = s == 0, s
        shape = count, fresh, self.own and fresh, going if self.steps.endings else 0
        self.steps.replay.run(shape, partial(self._step, count, going, fresh, step))
        self.steps.forget_moved()

    def _step(
        self, count: int, going: int, fresh: bool, step: Callable[[Clients, Minibatch], None]
    ) -> None:
        steps = self.steps
        own = self.at.prefix(count)
        now = replace(own, going=going, fresh=fresh, step=cast("int", steps.step))
        if fresh and not self.own:
            now.w = now.start.expand(count, -1)
        batch, now.noise = steps.batch(count), steps.noise(count)
        step(now, batch)
        steps.end(count, batch.count)
