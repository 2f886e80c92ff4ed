"""What the time of each phase is made of: terms in seconds, each a quantity over a rate.

A cost model says `seconds of a phase = sum of coefficients * terms`, all coefficients >= 0 and
without a unit: how many calls a fixed part is worth, how many times the bytes that must be moved
are moved, how far the products are from the FLOP rate. What belongs to the machine is in the terms.
No two terms of a phase grow alike with the cohort unless they are of one rate: otherwise the fit
could not tell which of the two another machine changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .machine import Machine, Rates
from .work import Workload

ROUNDS = 20  # of a run, unless it is said
NODES = 64  # leaves of the sum over a cohort: ranks send no more partial sums than that
BETWEEN = {"exchange", "sums sent", "waits", "shared out"}  # terms that are 0 for one rank
DRAWN = 8  # bytes of a client's number
PHASE_NAMES = (
    "schedule", "gather", "forward_backward", "perturb", "step", "aggregate", "state", "other"
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """A study's point.

    threads  of each rank
    chunk    clients trained together, at most
    rounds   of the run: the one in its middle is meant
    """

    clients: int
    cohort: int
    ranks: int
    threads: int
    chunk: int
    rounds: int = ROUNDS

    @property
    def new(self) -> float:
        """Part of the cohort that never took part before, in the mean of all draws."""
        return (1 - self.cohort / self.clients) ** (self.rounds / 2)

    @property
    def seen(self) -> float:
        """Clients that have taken part at the end, in the mean."""
        return self.clients * (1 - (1 - self.cohort / self.clients) ** self.rounds)


def terms(
    size: Size, work: Workload, machine: Machine, rates: Rates
) -> Mapping[str, Mapping[str, float]]:
    """phase -> term -> seconds."""
    call, byte = rates.call, 1 / rates.bandwidth
    # Ranks work side by side: calls are those of one, bytes and FLOPs all ranks' at all's rate.
    own = size.cohort / size.ranks
    chunks = math.ceil(own / max(1, min(size.chunk, own)))
    amounts = work.amounts(size.cohort)
    far = {
        "beyond level 2": _beyond(size.cohort * work.row, machine.private * size.threads) * byte,
        "beyond the last level": _beyond(size.cohort * work.row, machine.shared) * byte,
    }
    sends = math.log2(size.ranks) if size.ranks > 1 else 0.0
    # The round ends with the slower rank, whose clients are the same work.
    several = float(size.ranks > 1)
    exchange = {
        "exchange": sends * call,
        "sums sent": sends * 2 * min(NODES, size.cohort) * work.row * byte,
        "waits": several * amounts["forward_backward"] / rates.flops,
    }
    # A client's first rows are pages that the system has to find and to clear.
    first = {"rows first written": size.new * work.kinds * size.cohort * work.row * byte}
    begun = {"fixed": call, "chunks": chunks * call}
    calls = {"calls": chunks * work.steps * call}  # a step of a chunk is a few calls
    population = {"population": size.clients * DRAWN * byte}
    return {
        "schedule": {
            "fixed": call,
            "clients": own * call,
            "shared out": several * size.cohort * call,
            **population,
        },
        "gather": {**calls, "bytes": amounts["gather"] * byte},
        "forward_backward": {
            **calls,
            "flops": amounts["forward_backward"] / rates.flops,
            **far,
            **first,
        },
        "perturb": {**calls, "bytes": amounts["perturb"] * byte},
        "step": {**calls, "bytes": amounts["step"] * byte, **first},
        "aggregate": {**begun, "bytes": amounts["aggregate"] * byte, **far, **first, **exchange},
        "state": {**begun, "bytes": amounts["state"] * byte, **far, **first, **population},
        "other": {**begun, "clients": own * call, **population, "exchange": exchange["exchange"]},
    }


def memory_terms(size: Size, work: Workload, each: float) -> Mapping[str, float]:
    """Bytes of a process: what is there anyhow, per client, live buffers, rows kept."""
    own = size.cohort / size.ranks
    return {
        "process": float(1 << 20),
        "clients": DRAWN * float(size.clients),
        "live": each * min(own, size.chunk),
        "rows": (own + size.seen / size.ranks) * work.row * work.kinds,
        "batches": DRAWN * own * work.samples,
    }


def _beyond(held: float, cache: float) -> float:
    return max(0.0, held - cache) if cache else 0.0
