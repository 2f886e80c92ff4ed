"""What a schedule is made of: one `Round`, drawn from a seed or written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil, sqrt

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ._messages import format_value
from .batches import Packing
from .random import Ints, choose, permutations, toss

EXCHANGE = 1 << 31  # from one exchange of a round to the next, in the key of its batches


@dataclass(frozen=True, eq=False)
class Round:
    """Who trains in a round, and on what.

    clients  int64 [C], the cohort in processing order
    steps    int64 [C], the number of local steps of each
    width    B, the widest batch of the whole schedule
    """

    clients: Ints
    steps: Ints
    width: int
    fill: Callable[[Ints], tuple[Ints, Ints]] = field(repr=False)

    def batches(self, positions: ArrayLike) -> tuple[Tensor, Tensor]:
        """The batches of the clients at `positions` `[K]` of the cohort.

        Returns index int64 `[K, T, B]`, positions within each client's own samples, and count int32
        `[K, T]`, how many of the B are real. T is the most steps among these clients; padding is
        index 0, and a step a client does not take has count 0. A client's entries do not depend on
        the other positions asked for.
        """
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
        index, count = self.fill(at.astype(np.int64))
        return torch.from_numpy(index), torch.from_numpy(count.astype(np.int32))

    def packed(self, positions: Ints) -> tuple[Tensor, Tensor, Packing]:
        """The batches of the clients at `positions` `[K]`, descending by steps, without padding.

        Returns index int64 `[n, B]`, count int32 `[n]` and where in them each batch lies.
        """
        index, count = self.fill(positions)
        packing = Packing.of(self.steps[positions])
        lines = packing.client, packing.step
        return (
            torch.from_numpy(index[lines]),
            torch.from_numpy(count[lines].astype(np.int32)),
            packing,
        )


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

    def batches(self, seed: int, key: int, clients: Ints, sizes: Ints) -> tuple[Ints, Ints]:
        """Fresh permutations cut into batches: index `[K, T, B]`, count `[K, T]`."""
        epochs = np.broadcast_to(self.epochs, sizes.shape)[:, None]
        order = permutations(seed, key, clients, sizes, int(epochs.max()))
        per_epoch = self.per_epoch(sizes)[:, None]
        step = np.arange((epochs * per_epoch).max())
        epoch, batch = np.divmod(step, per_epoch)  # [K, T]
        taken = epoch < epochs
        slot = batch[..., None] * self.width + np.arange(self.width)  # [K, T, B]
        real = taken[..., None] & (slot < sizes[:, None, None])
        k = np.arange(sizes.size)[:, None, None]
        index = order[k, np.where(taken, epoch, 0)[..., None], np.where(real, slot, 0)]
        return np.where(real, index, 0), real.sum(-1)


def drawn_round(seed: int, key: int, clients: Ints, sizes: Ints, cut: Cut) -> Round:
    """The round of `clients` [C] who have `sizes` [C] samples; key: its number, in the draws."""

    def fill(at: Ints) -> tuple[Ints, Ints]:
        return cut.of(at).batches(seed, key, clients[at], sizes[at])

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

    @property
    def width(self) -> int:
        """B: one for the whole schedule, so that no client's batch shape depends on its company."""
        longest = int(self.sizes.max())
        return longest if self.batch is None else min(self.batch, longest)

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

    def round(self, t: int, exchange: int = 0) -> Round:
        """Round `t`; another exchange has the same cohort and other batches."""
        if self.chance is None:
            clients = choose(self.seed, t, self.eligible, self.cohort)
        else:
            clients = toss(self.seed, t, self.eligible, self.chance)[: self.largest]
        cut = Cut(self.epochs, self.width, self.whole)
        key = t + exchange * EXCHANGE
        return drawn_round(self.seed, key, clients, self.sizes[clients], cut)

    def single(self) -> str:
        """Who meets a batch of one sample, "" if nobody does."""
        sizes = self.sizes[self.eligible]
        last = np.full_like(sizes, self.width) if self.whole else (sizes - 1) % self.width + 1
        found = self.eligible[(last == 1) | ((self.width == 1) & (sizes > 0))]
        if found.size == 0:
            return ""
        return f"client {found[0]} ({self.sizes[found[0]]} samples in batches of {self.width})"

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

    def fill(at: Ints) -> tuple[Ints, Ints]:
        index = np.zeros((at.size, int(steps[at].max()), width), dtype=np.int64)
        count = np.zeros(index.shape[:2], dtype=np.int64)
        for k, j in enumerate(at):
            for s, batch in enumerate(batches[j]):
                index[k, s, : batch.size] = batch
                count[k, s] = batch.size
        return index, count

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
