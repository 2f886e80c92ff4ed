"""What a schedule is made of: one `Round`, drawn from a seed or written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, sqrt

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from . import draws
from ._messages import format_value
from .batches import Packing
from .kernels import schedule
from .kernels.schedule import Lines
from .random import Ints, permutations
from .round_lines import LineBatches, Owned, packed_lines, placed

# (positions [K] in the cohort, lines, where samples lie) -> samples of clients, or rows of the data
Fill = Callable[[Ints, Lines, Owned | None], LineBatches]
EXCHANGE = 1 << 31  # from one exchange of a round to the next, in the key of its batches
LOOKED_AT = 1 << 16  # clients whose sizes are looked at at once


@dataclass(frozen=True, eq=False)
class Round:
    """Who trains in a round, and on what.

    clients  int64 [C], the cohort in processing order
    steps    int64 [C], the number of local steps of each
    width    B, the widest batch of the whole schedule
    place    (round, exchange) in a schedule that is drawn
    """

    clients: Ints
    steps: Ints
    width: int
    fill: Fill = field(repr=False)
    place: tuple[int, int] | None = None

    def batches(self, positions: ArrayLike) -> tuple[Tensor, Tensor]:
        """The batches of the clients at `positions` `[K]` of the cohort.

        Returns index int64 `[K, T, B]`, positions within each client's own samples, and count int32
        `[K, T]`, how many of the B are real. T is the most steps among these clients; padding is
        index 0, and a step a client does not take has count 0. A client's entries do not depend on
        the other positions asked for.
        """
        at = self._checked(positions)
        steps = int(self.steps[at].max())
        index, count = self.fill(at, Lines(at.size, steps, self.width), None).made()
        return index.view(at.size, steps, self.width), count.view(at.size, steps)

    def packed(self, at: Ints, owned: Owned | None = None) -> tuple[Tensor, Tensor, Packing]:
        """The batches of clients `at` [K] with the most steps first, without padding.

        Returns index int64 `[n, B]`, count int32 `[n]` and where in them each batch lies.

        owned  where the samples of clients `at` lie: the index is of the data's rows then
        """
        packing = Packing.of(self.steps[at])
        lines = packed_lines(at.size, packing, self.width)
        return *self.fill(at, lines, owned).made(), packing

    def _checked(self, positions: ArrayLike) -> Ints:
        try:
            at = np.asarray(positions)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"positions: expected integers [K]; got {format_value(positions)}"
            ) from error
        if at.ndim != 1 or at.size == 0 or at.dtype.kind not in "iu":
            raise ValueError(
                f"positions: expected integers [K], K > 0; got {at.dtype} {list(at.shape)}"
            )
        if at.min() < 0 or at.max() >= self.clients.size:
            raise ValueError(
                f"positions: expected 0 <= p < {self.clients.size}; got {at.min()}..{at.max()}"
            )
        return at.astype(np.int64)


@dataclass(frozen=True)
class Cut:
    """How a client's samples are cut into batches.

    epochs  passes over all samples
    width   B, the widest batch of any client
    whole   batches narrower than `width` are left out
    """

    epochs: int | Ints  # for all, or of each client [C]
    width: int
    whole: bool = False

    def steps(self, sizes: Ints) -> Ints:
        """Steps that clients of these sizes take. [C]"""
        return self.epochs * self.per_epoch(sizes)

    def per_epoch(self, sizes: Ints) -> Ints:
        """Batches of an epoch."""
        return sizes // self.width if self.whole else -(-sizes // self.width)

    def of(self, at: Ints) -> Cut:
        """That of some of the clients."""
        return self if isinstance(self.epochs, int) else replace(self, epochs=self.epochs[at])

    def draw(
        self, streams: tuple[int, int], who: tuple[Ints, Ints], lines: Lines, owned: Owned | None
    ) -> LineBatches:
        """Fresh permutations cut into batches, by (seed, key of the round), of (ids, sizes) [K]."""
        sizes = who[1]
        epochs = np.empty_like(sizes)
        epochs[:] = self.epochs
        if schedule.available():
            cut = self.width, self.whole
            return draws.batches(streams, (*who, epochs), lines, cut, owned)
        order, per_epoch = permutations(*streams, *who, int(epochs.max())), self.per_epoch(sizes)
        taken = np.minimum(sizes, per_epoch * self.width)  # samples of an epoch
        flat = [order[k, : epochs[k], :n].reshape(-1) for k, n in enumerate(taken)]
        ends = [np.arange(self.width, n + self.width, self.width).clip(max=n) for n in taken]
        cuts = [np.tile(np.diff(end, prepend=0), epochs[k]) for k, end in enumerate(ends)]
        where = lines, epochs * per_epoch
        return placed(*where, np.concatenate(flat), np.concatenate(cuts), owned)


def drawn_round(seed: int, key: int, clients: Ints, sizes: Ints, cut: Cut) -> Round:
    """The round of `clients` [C] who have `sizes` [C] samples; key: its number, in the draws."""

    def fill(at: Ints, lines: Lines, owned: Owned | None) -> LineBatches:
        return cut.of(at).draw((seed, key), (clients[at], sizes[at]), lines, owned)

    return Round(clients, cut.steps(sizes), cut.width, fill)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Rounds drawn from a seed: nothing is kept but the sizes, so that N can be millions."""

    rounds: int
    sizes: Ints  # [N]
    eligible: Ints  # ids of the clients that have samples
    cohort: int
    epochs: int
    batch: int | None
    seed: int
    chance: float | None = None  # of each client to take part; None draws exactly `cohort`
    whole: bool = False  # batches narrower than `batch` are left out

    @property
    def largest(self) -> int:
        """The most clients a round may have: of chance, 8 standard deviations above the mean."""
        n, p = self.eligible.size, self.chance
        return self.cohort if p is None else min(n, ceil(n * p + 8 * sqrt(n * p * (1 - p)) + 8))

    @cached_property
    def width(self) -> int:
        """B: one for the whole schedule, so that no client's batch shape depends on its company."""
        longest = int(self.sizes.max())
        return longest if self.batch is None else min(self.batch, longest)

    @cached_property
    def cut(self) -> Cut:
        """How every client's samples are cut."""
        return Cut(self.epochs, self.width, self.whole)

    @property
    def longest(self) -> int:
        """The most steps that a client takes in a round."""
        return int(self.cut.steps(self.sizes.max(keepdims=True))[0])

    def facts(self) -> dict[str, str]:
        """What the schedule follows from, for people."""
        n, p = f"{self.eligible.size:,}", self.chance
        who = f"{self.cohort:,} of {n} clients" if p is None else f"each of {n} with chance {p:g}"
        batch = "all of a client's samples" if self.batch is None else f"{self.batch:,} samples"
        return {
            "drawn": f"{who}, seed {self.seed}",
            "local step": f"{batch}{', whole batches only' if self.whole else ''}",
            "local epochs": f"{self.epochs:,}",
        }

    def clients(self, t: int) -> Ints:
        """The cohort of round `t`."""
        if self.chance is None:
            return draws.choose(self.seed, t, self.eligible, self.cohort)
        return draws.toss(self.seed, t, self.eligible, self.chance, self.largest)

    def round(self, t: int, exchange: int = 0) -> Round:
        """Round `t`; another exchange has the same cohort and other batches."""
        clients = self.clients(t)
        key = t + exchange * EXCHANGE
        made = drawn_round(self.seed, key, clients, self.sizes[clients], self.cut)
        return replace(made, place=(t, exchange))

    def single(self) -> str:
        """Who meets a batch of one sample, "" if nobody does."""
        for begin in range(0, self.eligible.size, LOOKED_AT):
            own = self.eligible[begin : begin + LOOKED_AT]
            sizes = self.sizes[own]
            last = np.full_like(sizes, self.width) if self.whole else (sizes - 1) % self.width + 1
            found = own[(last == 1) | ((self.width == 1) & (sizes > 0))]
            if found.size:
                some = f"{self.sizes[found[0]]} samples in batches of {self.width}"
                return f"client {found[0]} ({some})"
        return ""

    def check(self, sizes: Ints) -> None:
        """Raise ValueError unless the data has the sizes the schedule was drawn for."""
        if sizes.size != self.sizes.size:
            raise ValueError(f"sizes: drawn for {self.sizes.size} clients; got {sizes.size}")
        wrong = np.flatnonzero(sizes != self.sizes)
        if wrong.size:
            i = wrong[0]
            raise ValueError(
                f"sizes: client {i} had {self.sizes[i]} samples when drawn; got {sizes[i]}"
            )


def written_round(clients: Ints, batches: list[list[Ints]], width: int) -> Round:
    """The round of `clients` [C], whose batches are written down: `batches[j][s]`."""
    steps = np.array([len(b) for b in batches], dtype=np.int64)

    def fill(at: Ints, lines: Lines, owned: Owned | None) -> LineBatches:
        flat = [batch for j in at for batch in batches[j]]
        sizes = np.array([batch.size for batch in flat], dtype=np.int64)
        return placed(lines, steps[at], np.concatenate(flat or [sizes]), sizes, owned)

    return Round(clients, steps, width, fill)


@dataclass(frozen=True, eq=False)
class Explicit:
    """Rounds written down: `batches[t][j][s]` indexes the samples of client `cohorts[t][j]`."""

    cohorts: list[Ints]
    batches: list[list[list[Ints]]]
    width: int

    @property
    def rounds(self) -> int:
        """T."""
        return len(self.cohorts)

    @property
    def largest(self) -> int:
        """Clients of the largest round."""
        return max(ids.size for ids in self.cohorts)

    @property
    def longest(self) -> int:
        """Steps of the client that takes most of them in a round."""
        return max(len(steps) for written in self.batches for steps in written)

    def facts(self) -> dict[str, str]:
        """What there is to say of it, for people."""
        return {"written down": f"batches of up to {self.width:,} samples"}

    def round(self, t: int, exchange: int = 0) -> Round:
        """Round `t`; every exchange has the batches written down."""
        return written_round(self.cohorts[t], self.batches[t], self.width)

    def single(self) -> str:
        """Who meets a batch of one sample first, "" if nobody does."""
        for t, cohort in enumerate(self.cohorts):
            for client, steps in zip(cohort, self.batches[t], strict=True):
                for s, batch in enumerate(steps):
                    if batch.size == 1:
                        return f"client {client} (round {t}, step {s})"
        return ""

    def check(self, sizes: Ints) -> None:
        """Raise ValueError naming round, client and step where the data lacks what is named."""
        for t, cohort in enumerate(self.cohorts):
            for j, client in enumerate(cohort):
                if client >= sizes.size:
                    raise ValueError(
                        f"cohorts: round {t} names client {client}; the data has {sizes.size}"
                    )
                within(self.batches[t][j], int(sizes[client]), f"round {t}, client {client}")


def within(steps: list[Ints], size: int, where: str) -> None:
    """Raise ValueError where a step names a sample that a client of `size` samples lacks."""
    for s, batch in enumerate(steps):
        if batch.max() >= size:
            raise ValueError(
                f"batches: {where}, step {s}: index {batch.max()}; the client has {size} samples"
            )
