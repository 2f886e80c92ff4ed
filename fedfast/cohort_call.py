"""The arguments of one call of `Cohort.train`, checked: who trains, on which batches, how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ._messages import format_value
from .client_sampling import integers
from .kernels.schedule import Lines
from .random import Ints
from .round_lines import LineBatches, Owned
from .rounds import EXCHANGE, Cut, Round, drawn_round, within, written_round
from .validation.values import COUNT, Count, Number

Ids = Sequence[int] | np.ndarray | Tensor
Numbers = Sequence[float] | np.ndarray | Tensor  # one per client [C]

LARGEST_ID = (1 << 24) - 1  # tables have an entry for every id up to the largest


def client_ids(ids: Ids | None, clients: int, population: int) -> Ints:
    """Ids [C] that the call trains; None: as many as there are `clients`."""
    if clients == 0:
        raise ValueError("data: expected at least one client; got none")
    if ids is None:
        return np.arange(clients)
    given = ids.cpu().numpy() if isinstance(ids, Tensor) else ids
    found = integers("ids", given)
    values, counts = np.unique(found, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"ids: expected each client once; got {values[counts > 1][0]} twice")
    if values[-1] >= population:
        raise ValueError(
            f"ids: expected clients numbered from 0 to {population - 1}; got {values[-1]}"
        )
    return found


def rates(given: object, default: float, clients: int) -> float | np.ndarray:
    """Learning rates: one for all, or float64 [C]."""
    found = _numbers("lr", given, clients, Number(gt=0))
    if found is None:
        return default
    return float(found[0]) if (found == found[0]).all() else found.astype(np.float64)


def epoch_counts(given: object, default: int, clients: int) -> int | Ints:
    """Local epochs: of all, or int64 [C]."""
    found = _numbers("epochs", given, clients, Count((1 << 24) - 1))
    if found is None:
        return default
    return int(found[0]) if (found == found[0]).all() else found.astype(np.int64)


def _numbers(name: str, given: object, clients: int, check: Number | Count) -> np.ndarray | None:
    """Numbers [C], or [1] for all; None where none are given."""
    if given is None:
        return None
    if isinstance(given, Tensor):
        given = given.detach().cpu().numpy()
    if isinstance(given, np.ndarray | np.generic):
        given = given.tolist()
    if not isinstance(given, list | tuple):
        check(name, given)  # type: ignore[arg-type]
        return np.array([given])
    if len(given) != clients:
        raise ValueError(f"{name}: expected one per client, {clients}; got {len(given)}")
    for j, value in enumerate(given):
        check(f"{name}[{j}]", value)
    return np.array(given)


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


def steps_of(ids: Ints, sizes: Ints, batches: object) -> list[list[Ints]]:
    """Batches written down, checked; ValueError naming client and step."""
    if not isinstance(batches, Sequence) or isinstance(batches, str) or len(batches) != len(ids):
        came = len(batches) if isinstance(batches, Sequence) else type(batches).__name__
        raise ValueError(
            f"batches: expected a list of steps for each of {len(ids)} clients; got {came}"
        )
    steps, known = [], dict[tuple[int, int], list[Ints]]()
    for j, own in enumerate(batches):
        key = id(own), int(sizes[j])  # of clients that share a list
        if key not in known:
            known[key] = _own_steps(j, own, int(sizes[j]), f"client {ids[j]}")
        steps.append(known[key])
    return steps


def _own_steps(j: int, own: object, size: int, who: str) -> list[Ints]:
    if isinstance(own, list) and _plain(own, size):
        return own
    if not isinstance(own, Sequence | Tensor | np.ndarray) or isinstance(own, str):
        raise TypeError(f"batches[{j}]: expected a list of steps; got {format_value(own)}")
    made = [integers(f"batches[{j}][{s}]", batch) for s, batch in enumerate(own)]
    within(made, size, who)
    return made


def _plain(own: list[object], size: int) -> bool:
    """Whether these are arrays that need no more checks: a call may have thousands of them."""
    arrays = [b for b in own if isinstance(b, np.ndarray) and b.dtype == np.int64 and b.ndim == 1]
    if not own or len(arrays) < len(own) or not all(map(len, arrays)):
        return False
    joined = np.concatenate(arrays)
    return 0 <= int(joined.min()) and int(joined.max()) < size


@dataclass(frozen=True)
class Call:
    """One call of `Cohort.train`: clients [C] in the order of their ids.

    active       [A], positions of those who take a step; lr and epochs: one for all, or theirs [A]
    rehearsal    their batches of a first exchange, for rules that rehearse
    """

    t: int
    ids: Ints
    sizes: Ints
    plan: Round
    active: Ints
    lr: float | np.ndarray
    epochs: int | Ints
    rehearsal: Round | None

    @classmethod
    def of(cls, drawn: Batches, t: int, lr: float | np.ndarray, rehearses: bool) -> Call:
        """The call in round `t`."""
        plan, epochs = drawn.round(t), drawn.epochs
        active = np.flatnonzero(plan.steps)
        rate = lr if isinstance(lr, float) else lr[active]
        count = epochs if isinstance(epochs, int) else epochs[active]
        again = part_of(drawn.round(t, 1), active) if rehearses else None
        return cls(t, drawn.ids, drawn.sizes, plan, active, rate, count, again)

    def part(self, plan: Round) -> Round:
        """The part that those have in it who take a step."""
        return part_of(plan, self.active)


def part_of(plan: Round, at: Ints) -> Round:
    """The part of a round that the clients at positions `at` have in it."""

    def fill(k: Ints, lines: Lines, owned: Owned | None) -> LineBatches:
        return plan.fill(at[k], lines, owned)

    return Round(plan.clients[at], plan.steps[at], plan.width, fill)


def round_key(t: object) -> int:
    """A round's number as a key of random draws."""
    if isinstance(t, bool) or not isinstance(t, int | np.integer):
        raise TypeError(f"round: expected an integer; got {format_value(t)}")
    if not 0 <= int(t) <= COUNT:
        raise ValueError(f"round: expected 0 <= round <= {COUNT}; got {format_value(t)}")
    return int(t)
