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
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config as configs
from ..cli import fail
from ..cli.setting import USER, prepare, simulation
from ..config import RunConfig
from ..files import atomic
from ..history import Row
from ..phases import Profile, recording
from .launchers import ends_with_its_parent
from .machine import cores
from .memory_use import Peak
from .rows import ScaleRow
from .work import Workload, flops_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..cli.setting import Setting
    from ..simulation import Simulation

NEVER = 10**6
LEAST, PROFILED = 3, 2  # rounds that are timed at least, and that are timed phase by phase
MANY = 4000  # clients: rounds of few are short, and more of them are timed


@dataclass(frozen=True)
class Measured:
    """What a row came to.

    seconds   of a round, the median of `rounds`; phases: of them, seconds, adding up to it
    repeats   seconds of every time that the row was measured, of which this is the fastest
    samples   that all clients of a round train on; evaluation: seconds of one
    threads   of each rank; chunk: clients trained together
    setup     seconds that the population and the simulation took
    host, device, disk  bytes at the peak: this process, its GPU, client rows on disk
    """

    seconds: float
    repeats: list[float]
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
        with _group(row.ranks):
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

    What other processes do to a row makes it slower, never faster.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        del kept["held_out"]
        before = Measured(**kept)
    except (OSError, ValueError, KeyError, TypeError):
        return now
    repeats = sorted([*before.repeats, now.seconds])
    return replace(min(before, now, key=lambda one: one.seconds), repeats=repeats)


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
    return max(rounds, MANY // cohort), max(PROFILED, MANY // 10 // cohort)


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
    begin = time.perf_counter()
    setting = replace(setting, clients=setting.clients.repeated(row.clients))
    sim = simulation(config, setting, row.algorithm)
    setup = time.perf_counter() - begin
    if int(os.environ.get("RANK", "0")) > 0:
        for _ in sim:
            pass
        return None
    with closing(iter(sim)) as going:
        _profiled(going, 1)  # records plans with the names of their phases
        most, profiled = _rounds(rounds, row.cohort)
        timed = list(_timed(going, most, seconds))
        taken = statistics.median(each.seconds for each in timed)
        phases = _profiled(going, profiled if taken < seconds else 1)
    evaluation = _evaluation(sim)
    return Measured(
        seconds=taken,
        repeats=[taken],
        rounds=len(timed),
        samples=statistics.mean(each.samples for each in timed),
        phases=_scaled(phases, taken),
        evaluation=evaluation,
        threads=int(config.threads or 1),
        chunk=sim.chunk,
        each=sim.memory.each,
        setup=setup,
        **peak.bytes(sim.device),
        workload=_workload(sim, setting, timed[-1], row.folder / "flops.json").as_json(),
    )


def _timed(going: Iterator[Row], rounds: int, seconds: float) -> Iterator[Row]:
    """Rounds until there are so many, or they have taken so long; at least three."""
    end = time.perf_counter() + seconds
    for i, row in enumerate(going):
        if row.status != "ok":
            raise ValueError(f"round {row.round}: {row.status}; lower lr, or give other data")
        yield row
        late = time.perf_counter() > end
        if i + 1 >= rounds or (late and (i + 1 >= LEAST or row.seconds > seconds)):
            return


def _profiled(going: Iterator[Row], rounds: int) -> dict[str, float]:
    """Seconds of each phase in a round, and "other"."""
    with recording(Profile()) as profile:
        rows = list(islice(going, rounds))
    found: dict[str, float] = {k: v / len(rows) for k, v in profile.seconds().items()}
    whole = sum(row.seconds for row in rows) / len(rows)
    del found["evaluate"]
    return {**found, "other": max(0.0, whole - sum(found.values()))}


def _scaled(phases: dict[str, float], seconds: float) -> dict[str, float]:
    """The same shares of `seconds`: timers take their time."""
    whole = sum(phases.values())
    return {name: taken * seconds / whole for name, taken in phases.items()}


def _evaluation(sim: Simulation) -> float:
    """Seconds of a test of the global model; nan without a test set."""
    if not sim.has_tests:
        return float("nan")
    sim.evaluate()
    begin = time.perf_counter()
    sim.evaluate()
    return time.perf_counter() - begin


def _workload(sim: Simulation, setting: Setting, row: Row, counted: Path) -> Workload:
    design = sim._design
    algorithm, layout, options = design.algorithm, design.layout, design.options
    sizes = setting.clients.sizes
    batch = options.batch_size or int(sizes.max())
    steps = options.local_epochs * -(-sizes // batch)
    x = design.trial
    forward, backward = _flops(design.module, x, counted)
    kinds = len(algorithm.client_rows())
    return Workload(
        row=layout.trained * layout.dtype.itemsize,
        sample=x[0].numel() * x.element_size(),
        samples=row.samples / row.clients,
        steps=float(steps.mean()),
        passes=algorithm.gradients,
        kinds=kinds,
        operands=kinds + int(algorithm.local.momentum > 0),
        forward=forward,
        backward=backward,
        tested=0 if setting.data.test is None else len(setting.data.test),
    )


def _flops(module: nn.Module, x: Tensor, counted: Path) -> tuple[float, float]:
    """`flops_of`, whose imports take seconds: counted once for all rows of an algorithm."""
    with suppress(OSError, ValueError):
        forward, backward = json.loads(counted.read_text(encoding="ascii"))
        return float(forward), float(backward)
    found = flops_of(module, x)
    atomic(counted, lambda to: to.write_text(json.dumps(found), encoding="ascii"))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
