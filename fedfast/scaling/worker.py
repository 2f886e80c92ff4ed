"""One row of a study in a process of its own: `python -m fedfast.scaling.worker FOLDER ...`.

With several ranks torch.distributed.run starts so many of these; rank 0 writes the result.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config as configs
from ..cli import fail
from ..cli.setting import USER, prepare, simulation
from ..config import RunConfig
from ..files import atomic
from ..history import Row
from .client_work import counted_flops, workload
from .launchers import ends_with_its_parent
from .machine import cores
from .memory_use import Peak
from .rows import ScaleRow
from .timing import TOGETHER, InTurns, low, profiled, scaled, timed

if TYPE_CHECKING:
    from ..cli.setting import Setting
    from ..simulation import Simulation

NEVER = 10**6
PROFILED = 2  # rounds that are timed phase by phase, at least
MANY, IN_PHASES = 4000, 1000  # clients: rounds of few are short, and more of them are timed
YARD = 1e8  # FLOPs of the yardstick's round
WARM = 3  # rounds of it that do not count
STILL = 1e-6  # its learning rate: it never diverges


@dataclass(frozen=True)
class Measured:
    """What a row came to.

    seconds   of a round, the lower quartile of `rounds`; phases: of them, seconds, adding up to it
    visits    (seconds, pulse) of every time that the row was measured; this is the fastest.
              pulse: seconds of the yardstick's round beside it
    samples   that all clients of a round train on; evaluation: seconds of one
    threads   of each rank; chunk: clients trained together
    setup     seconds that the population and the simulation took
    host, device, disk  bytes at the peak: this process, its GPU, client rows on disk
    """

    seconds: float
    visits: list[list[float]]
    rounds: int
    samples: float
    phases: dict[str, float]
    evaluation: float
    threads: int
    chunk: int
    each: int
    setup: float
    host: int
    device: int
    disk: int
    workload: dict[str, float]


def main(argv: list[str]) -> int:
    """Measures and writes the result; 0, or 2 with one line for a user's mistake."""
    parser = argparse.ArgumentParser("fedfast.scaling.worker")
    parser.add_argument("study", type=Path)
    parser.add_argument("--algorithm", required=True)
    for name in ("clients", "cohort", "ranks", "rounds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--held-out", action="store_true", dest="held_out")
    parser.add_argument("--watched", action="store_true")
    given = parser.parse_args(argv)
    if given.watched:
        ends_with_its_parent()
    size = given.clients, given.cohort, given.ranks
    row = ScaleRow(given.study, given.algorithm, *size, given.held_out)
    try:
        config = of_row(configs.load_kept(given.study / "config.yaml"), row, given.rounds)
        found = measure(config, row, given.rounds, given.seconds)
    except USER as error:
        return fail(str(error) or type(error).__name__)
    if found is not None:
        kept = {**asdict(fastest(row.result, found)), "held_out": row.held_out}
        text = json.dumps(kept, indent=1) + "\n"
        atomic(row.result, lambda to: to.write_text(text, encoding="utf-8"))
    return 0


def fastest(path: Path, now: Measured) -> Measured:
    """What was measured `now`, or earlier by the row's file where that was faster.

    What other processes do to a row makes it slower, never faster. In the first visit to a row of
    an algorithm FLOPs are counted, whose modules are memory that no other visit has.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        del kept["held_out"]
        before = Measured(**kept)
    except (OSError, ValueError, KeyError, TypeError):
        return now
    best = min(before, now, key=lambda one: one.seconds)
    host = min(before.host, now.host)
    return replace(best, visits=[*before.visits, *now.visits], host=host)


def of_row(config: RunConfig, row: ScaleRow, rounds: int) -> RunConfig:
    """The study's configuration for one row, of which `rounds` are timed."""
    alone = config.alone(row.algorithm, config.seed)
    return alone.model_copy(
        update={
            "rounds": sum(_rounds(rounds, row.cohort)) + 2,  # never all of them
            "participation": row.cohort / row.clients,
            "threads": config.threads or max(1, cores() // row.ranks),
            "local_test": None,
            "callbacks": [],
            "loggers": [],
            "eval_every": NEVER,
        }
    )


def _rounds(rounds: int, cohort: int) -> tuple[int, int]:
    """How many are timed as a whole, and phase by phase."""
    return max(rounds, MANY // cohort), max(PROFILED, IN_PHASES // cohort)


@contextmanager
def _group(ranks: int) -> Iterator[None]:
    """The process group of a row's ranks, which simulations inside train together in."""
    if ranks == 1:
        yield
        return
    import torch

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend)
    yield
    torch.distributed.destroy_process_group()


def measure(config: RunConfig, row: ScaleRow, rounds: int, seconds: float) -> Measured | None:
    """Times up to `rounds` rounds (more of few clients), fewer where they take over `seconds`.

    None on ranks other than the first, which train what that one begins.
    """
    setting = prepare(config)
    peak = Peak.begun()
    yard = _yardstick(config, setting, row)
    begin = time.perf_counter()
    setting = replace(setting, clients=setting.clients.repeated(row.clients))
    with _group(row.ranks), closing(yard):
        sim = simulation(config, setting, row.algorithm)
        setup = time.perf_counter() - begin
        with closing(iter(sim)) as rounds_of:
            going = InTurns(rounds_of, yard, max(1, TOGETHER // row.cohort))
            if int(os.environ.get("RANK", "0")) > 0:
                deque(going, maxlen=0)
                return None
            return _measured(going, sim, setting, row, (rounds, seconds), setup, peak)


def _measured(
    going: InTurns,
    sim: Simulation,
    setting: Setting,
    row: ScaleRow,
    limits: tuple[int, float],
    setup: float,
    peak: Peak,
) -> Measured:
    profiled(going, 1)  # records plans with the names of their phases
    (most, in_phases), seconds = _rounds(limits[0], row.cohort), limits[1]
    rows = list(timed(going, most, seconds))
    taken = low([each.seconds for each in rows])
    pulse = low(going.pulses)
    phases = profiled(going, in_phases if taken < seconds else 1)
    return Measured(
        seconds=taken,
        visits=[[taken, pulse]],
        rounds=len(rows),
        samples=statistics.mean(each.samples for each in rows),
        phases=scaled(phases, taken),
        evaluation=_evaluation(sim),
        threads=int(sim.threads or 1),
        chunk=sim.chunk,
        each=sim.memory.each,
        setup=setup,
        **peak.bytes(sim.device),
        workload=workload(sim, setting, rows[-1], row.counted).as_json(),
    )


def _yardstick(config: RunConfig, setting: Setting, row: ScaleRow) -> Generator[Row, None, None]:
    """Rounds of one size for all rows of an algorithm: of the config's clients, this rank alone."""
    import torch

    clients = setting.clients
    x = clients.samples.take(clients.order[:2]).inputs(getattr(torch, config.dtype))
    of_client = sum(counted_flops(setting.model, x, row.counted)) * float(clients.sizes.mean())
    cohort = min(clients.num_clients, max(1, round(YARD / max(1.0, of_client))))
    small = {"rounds": NEVER, "participation": cohort / clients.num_clients, "lr": STILL}
    yard = iter(simulation(config.model_copy(update=small), setting, row.algorithm))
    for _ in range(WARM):
        next(yard)
    return yard


def _evaluation(sim: Simulation) -> float:
    """Seconds of a test of the global model; nan without a test set."""
    if not sim.has_tests:
        return float("nan")
    sim.evaluate()
    begin = time.perf_counter()
    sim.evaluate()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
