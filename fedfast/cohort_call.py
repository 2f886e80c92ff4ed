"""The arguments of one call of `Cohort.train`, checked: who trains, on which batches, how fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ._messages import format_value
from .client_sampling import integers
from .random import Ints
from .rounds import EXCHANGE, Cut, Round, drawn_round, within, written_round
from .validation.values import Count, Number

LARGEST_ID = (1 << 27) - 1  # tables have an entry for every id up to the largest


def client_ids(ids: object, clients: int | None, population: int) -> Ints:
    """Ids [C] that the call trains. `clients`: how many there are where nobody is named."""
    if ids is None:
        if clients is None:
            raise ValueError("ids: expected the clients to train; got None without any data")
        return np.arange(clients)
    given = ids.cpu().numpy() if isinstance(ids, Tensor) else ids
    found = integers("ids", given)
    values, counts = np.unique(found, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"ids: expected each client once; got {values[counts > 1][0]} twice")
    if values[-1] >= population:
        raise ValueError(f"ids: expected 0 <= id < {population}; got {values[-1]}")
    return found


def per_client(
    name: str, given: object, clients: int, check: Callable[[str, float], None]
) -> np.ndarray | None:
    """One number per client [C] where they differ; None where `given` is one for all."""
    if isinstance(given, Tensor):
        given = given.detach().cpu().numpy()
    if isinstance(given, np.ndarray) and given.ndim:
        given = given.tolist()
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        return None
    if len(given) != clients:
        raise ValueError(f"{name}: expected one per client, {clients}; got {len(given)}")
    for j, value in enumerate(given):
        check(f"{name}[{j}]", value)
    return np.array(given)


def rates(given: object, default: float, clients: int) -> float | np.ndarray:
    """Learning rates: one for all, or float64 [C]."""
    if given is None:
        return default
    own = per_client("lr", given, clients, Number(gt=0))
    if own is None:
        one = given.item() if isinstance(given, Tensor | np.generic | np.ndarray) else given
        Number(gt=0)("lr", one)  # type: ignore[arg-type]
        return float(one)  # type: ignore[arg-type]
    return float(own[0]) if (own == own[0]).all() else own.astype(np.float64)


def epoch_counts(given: object, default: int, clients: int) -> int | Ints:
    """Local epochs: of all, or int64 [C]."""
    if given is None:
        return default
    count = Count((1 << 24) - 1)
    own = per_client("epochs", given, clients, count)
    if own is None:
        one = given.item() if isinstance(given, Tensor | np.generic | np.ndarray) else given
        count("epochs", one)  # type: ignore[arg-type]
        return int(one)  # type: ignore[call-overload, no-any-return]
    return int(own[0]) if (own == own[0]).all() else own.astype(np.int64)


@dataclass(frozen=True)
class Batches:
    """The batches of a call's clients, drawn or written down.

    seed     of the draws; batch: samples of a step, None for all of a client's
    whole    batches that are not whole are left out
    written  `[j][s]`, in place of drawn ones
    """

    ids: Ints
    sizes: Ints
    epochs: int | Ints
    seed: int
    batch: int | None
    whole: bool
    written: list[list[Ints]] | None = None

    def cut(self) -> Cut:
        """See `Cut`; as wide as need be, for buffers are as wide."""
        longest = max(1, int(self.sizes.max()))
        if self.batch is None:
            return Cut(self.epochs, longest)
        return Cut(self.epochs, self.batch if self.whole else min(self.batch, longest), self.whole)

    def round(self, t: int, exchange: int = 0) -> Round:
        """Round `t`; another exchange has other batches, unless they are written down."""
        if self.written is not None:
            width = max((batch.size for own in self.written for batch in own), default=1)
            return written_round(self.ids, self.written, width)
        return drawn_round(self.seed, t + exchange * EXCHANGE, self.ids, self.sizes, self.cut())

    def single(self, everything: bool) -> str:
        """Which client meets a batch of one sample, "" if nobody does.

        everything  whether all samples of a client are also taken beside, in batches as wide
        """
        cut = self.cut()
        found = (self.sizes - 1) % cut.width == 0
        if self.written is not None:
            alone = [any(batch.size == 1 for batch in own) for own in self.written]
            found = np.array(alone) | (found & everything)
        elif cut.whole:
            found = (self.sizes > 0) & (found & everything | (cut.width == 1))
        at = np.flatnonzero(found & (self.sizes > 0))
        return f"client {self.ids[at[0]]} ({self.sizes[at[0]]} samples)" if at.size else ""


def written(ids: Ints, sizes: Ints, batches: object) -> list[list[Ints]]:
    """Batches written down, checked; ValueError naming client and step."""
    if not isinstance(batches, Sequence) or isinstance(batches, str) or len(batches) != len(ids):
        came = len(batches) if isinstance(batches, Sequence) else type(batches).__name__
        raise ValueError(
            f"batches: expected a list of steps for each of {len(ids)} clients; got {came}"
        )
    steps = []
    for j, own in enumerate(batches):
        if not isinstance(own, Sequence | Tensor | np.ndarray) or isinstance(own, str):
            raise TypeError(f"batches[{j}]: expected a list of steps; got {format_value(own)}")
        made = [integers(f"batches[{j}][{s}]", batch) for s, batch in enumerate(own)]
        within(made, int(sizes[j]), f"client {ids[j]}")
        steps.append(made)
    return steps


def some(plan: Round, at: Ints) -> Round:
    """The part of a round that the clients at positions `at` have in it."""
    return Round(plan.clients[at], plan.steps[at], plan.width, lambda k: plan.fill(at[k]))
