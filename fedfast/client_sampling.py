"""`Schedule`: which clients train in each round, and which samples each local step sees.

Drawn from a seed by default; written down, a run can be replayed exactly against any other
implementation.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ._messages import format_value
from ._renamed_modules import argument
from .phases import timed
from .random import Ints, check_seed
from .rounds import Drawn, Explicit, Round
from .run_options import SAMPLING
from .validation.values import Count, Share, boolean, integer

EXCHANGES = 2  # of a round at most: the key of its batches has 32 bits
SHOWN, LISTED = 3, 12  # rounds, and clients of each, that a notebook shows
MOST = 1 << 31  # rounds, and samples a client sees in one: keys are made of 32-bit numbers


class Schedule:
    """Cohorts and batches of every round; made by `Schedule.draw` or `Schedule.explicit`."""

    @argument("plan", "source")
    def __init__(self, source: Drawn | Explicit) -> None:
        self._source = source

    @staticmethod
    def draw(
        sizes: ArrayLike,
        *,
        rounds: int,
        participation: float,
        local_epochs: int,
        batch_size: int | None,
        seed: int,
        sampling: str = "exact",
        drop_last: bool = False,
    ) -> Schedule:
        """A schedule drawn from `seed`, round by round as it is asked for.

        sizes          [N], samples of each client; clients without samples are never drawn
        participation  share of the clients that have samples, in (0, 1]; the cohort is exactly
                       max(1, round(participation * their number)), without replacement
        batch_size     samples of a local step, or None for all the client's samples at once
        sampling       "bernoulli": each of them takes part with probability `participation`
                       instead, at least one does (FL-Simulator's and FedDyn's protocol)
        drop_last      the last batch of an epoch is left out where it has fewer than `batch_size`
                       samples, as torch's DataLoader does; clients with less than one batch could
                       take no step and are never drawn. Nothing is left out of batch_size=None
        Each epoch is a fresh permutation of the client's samples; without `drop_last` its last
        batch may be short. A client's batches in a round depend on (seed, round, client, its size,
        batch size) alone.
        Raises TypeError/ValueError naming the argument.
        """
        counts = integers("sizes", sizes)
        for name, value in {"rounds": rounds, "local_epochs": local_epochs}.items():
            Count()(name, value)
        if batch_size is not None:
            Count()("batch_size", batch_size)
        _bounded("sizes: the largest client's samples", int(counts.max()))
        _bounded("local_epochs: samples a client sees in a round", local_epochs * int(counts.max()))
        if isinstance(participation, np.generic):
            participation = participation.item()
        Share()("participation", participation)
        SAMPLING("sampling", sampling)
        boolean("drop_last", drop_last)
        batch = None if batch_size is None else int(batch_size)
        eligible = _eligible(counts, batch if drop_last else None)
        return Schedule(
            Drawn(
                rounds=int(rounds),
                sizes=counts,
                eligible=eligible,
                cohort=max(1, round(participation * eligible.size)),
                epochs=int(local_epochs),
                batch=batch,
                seed=check_seed(seed),
                chance=participation if sampling == "bernoulli" else None,
                whole=bool(drop_last) and batch is not None,
            )
        )

    @staticmethod
    def explicit(
        cohorts: Sequence[Sequence[int]], batches: Sequence[Sequence[Sequence[Sequence[int]]]]
    ) -> Schedule:
        """A schedule written down.

        cohorts  cohorts[t] = client ids of round t in processing order
        batches  batches[t][j][s] = indices into the own samples of client cohorts[t][j] at step s
        Numbers of steps and batch sizes may differ. Raises ValueError naming round, client, step.
        """
        _listed("cohorts", cohorts)
        _listed("batches", batches)
        if len(cohorts) == 0 or len(cohorts) != len(batches):
            raise ValueError(
                f"batches: expected one per cohort and at least one; got {len(batches)} for "
                f"{len(cohorts)} cohorts"
            )
        ids = [_cohort(t, cohort) for t, cohort in enumerate(cohorts)]
        steps = [_round(t, ids[t], batches[t]) for t in range(len(ids))]
        width = max(batch.size for r in steps for client in r for batch in client)
        return Schedule(Explicit(ids, steps, width))

    @property
    def rounds(self) -> int:
        """T, the number of rounds."""
        return self._source.rounds

    @property
    def drawn(self) -> bool:
        """Whether rounds are drawn from a seed."""
        return isinstance(self._source, Drawn)

    @property
    def drawing(self) -> Drawn | None:
        """What draws the rounds, if they are not written down."""
        return self._source if isinstance(self._source, Drawn) else None

    @property
    def width(self) -> int:
        """B, the widest batch of the schedule: the last dimension of every `Round.batches`."""
        return self._source.width

    @property
    def longest(self) -> int:
        """The most local steps that a client takes in a round."""
        return self._source.longest

    @property
    def largest_cohort(self) -> int:
        """C, the most clients that train in one round."""
        return self._source.largest

    def _repr_html_(self) -> str:
        """What notebooks show: how many, how wide, and the first cohorts."""
        from .report import html

        facts = {"clients per round": f"{self.largest_cohort:,} at most", **self._source.facts()}
        for t in range(min(SHOWN, self.rounds)):
            ids = self.round(t).clients
            more = ", …" if ids.size > LISTED else ""
            facts[f"round {t}"] = ", ".join(map(str, ids[:LISTED])) + more
        return html.panel("Schedule", f"{self.rounds:,} rounds", facts)

    @timed("schedule")
    def round(self, t: int, exchange: int = 0) -> Round:
        """Round `t` of 0..rounds-1.

        exchange  0, or more for algorithms that train the same cohort several times per round:
                  drawn schedules have other batches then, explicit ones the same
        """
        integer("t", t)
        integer("exchange", exchange)
        if not 0 <= exchange < EXCHANGES:
            raise ValueError(f"exchange: expected 0 or 1; got {format_value(exchange)}")
        if not 0 <= t < self.rounds:
            raise ValueError(f"t: expected 0 <= t < {self.rounds}; got {format_value(t)}")
        return self._source.round(t, exchange)

    def single(self) -> str:
        """Which client meets a batch of one sample, in words; "" if none does."""
        return self._source.single()

    def check(self, sizes: ArrayLike) -> None:
        """Raise ValueError unless every client and sample exists in data of these `sizes` `[N]`."""
        self._source.check(integers("sizes", sizes))


def _bounded(name: str, value: int) -> None:
    if value > MOST:
        raise ValueError(f"{name}: expected at most {MOST}; got {format_value(value)}")


def _eligible(sizes: Ints, least: int | None) -> Ints:
    """Ids of the clients that can take a step; `least` samples make one."""
    eligible = np.flatnonzero(sizes >= (least or 1))
    if eligible.size == 0 and sizes.max() > 0:
        raise ValueError(
            f"drop_last: every client has fewer samples than one batch of {least}, the largest "
            f"{sizes.max()}, so that nobody can take a step; take a smaller batch_size"
        )
    if eligible.size == 0:
        raise ValueError(f"sizes: expected a client with samples; got {sizes.size} empty ones")
    return eligible


def _listed(name: str, values: object) -> None:
    """A list, tuple or array: something with a length and an order."""
    array = isinstance(values, np.ndarray) and values.ndim > 0
    if not array and (isinstance(values, (str, bytes)) or not isinstance(values, Sequence)):
        raise TypeError(f"{name}: expected a list; got {_brief(values)}")


def _brief(value: object) -> str:
    """A short form of what came, however long it is."""
    scalar = isinstance(value, np.ndarray) and value.ndim == 0
    if isinstance(value, Sized) and not scalar:
        return f"{type(value).__name__} of {len(value)}"
    return format_value(value)[:80]


def integers(name: str, values: ArrayLike) -> Ints:
    """A non-empty list of integers >= 0 as int64 `[n]`."""
    if not isinstance(values, (Sequence, np.ndarray, torch.Tensor)) or isinstance(values, str):
        raise TypeError(f"{name}: expected a list of integers; got {_brief(values)}")
    if isinstance(values, Sequence) and any(isinstance(v, (bool, np.bool_)) for v in values):
        raise TypeError(f"{name}: expected integers; got True or False among them")
    try:
        array: NDArray[np.int64] = np.asarray(values)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{name}: expected a list of integers; got {_brief(values)}") from error
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: expected a non-empty list; got shape {list(array.shape)}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers; got dtype {array.dtype}")
    if array.min() < 0:
        raise ValueError(f"{name}: expected values >= 0; got {array.min()}")
    if array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected values below 2**63; got {array.max()}")
    return array.astype(np.int64)


def _cohort(t: int, cohort: Sequence[int]) -> Ints:
    ids = integers(f"cohorts[{t}]", cohort)
    values, counts = np.unique(ids, return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            f"cohorts[{t}]: client {values[counts > 1][0]} appears more than once in round {t}"
        )
    return ids


def _round(t: int, ids: Ints, clients: Sequence[Sequence[Sequence[int]]]) -> list[list[Ints]]:
    _listed(f"batches[{t}]", clients)
    if len(clients) != ids.size:
        raise ValueError(
            f"batches[{t}]: expected one entry per client, {ids.size}; got {len(clients)}"
        )
    for j, steps in enumerate(clients):
        _listed(f"batches[{t}][{j}]", steps)
        if len(steps) == 0:
            raise ValueError(f"batches[{t}][{j}]: round {t}, client {ids[j]} has no local step")
    return [
        [
            integers(f"batches[{t}][{j}][{s}] (round {t}, client {ids[j]}, step {s})", batch)
            for s, batch in enumerate(steps)
        ]
        for j, steps in enumerate(clients)
    ]
