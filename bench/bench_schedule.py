"""Draws of a round: `python bench/bench_schedule.py [--write]`.

One core. `numpy_ms` is the reference, fedfast/random.py, on the same numbers; the compiled module's
result is compared with it before it is timed. --write keeps rows in results/schedule.csv.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from fedfast.kernels import native
from result_files import append, stamp
from sizes import pick

from fedfast import draws, random, step_draws
from fedfast.batches import Packing
from fedfast.data import Augment
from fedfast.rounds import Cut, Round, drawn_round

REPEATS = pick(20, 2)
# clients, samples of each, batch size
BATCHES = pick([(100, 500, 50), (1000, 20, 10), (10, 50_000, 100)], [(4, 20, 5)])
# N, cohort
COHORTS = pick([(10**3, 100), (10**6, 100), (10**6, 10**4)], [(100, 10)])
TOSSES = pick([(10**6, 1e-4), (10**6, 0.01), (10**6, 0.5)], [(100, 0.1)])  # N, chance
CROPS = pick([(100, 10, 50)], [(4, 2, 5)])  # clients, steps, batch size


def best(work: Callable[[], object]) -> float:
    """Milliseconds of the fastest of some calls."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return round(1e3 * min(times), 4)


def by_numpy(turn: Round, at: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, Packing]:
    """The batches without the compiled module."""
    held, native.module = native.module, None
    try:
        return turn.packed(at)
    finally:
        native.module = held


def of_batches(clients: int, samples: int, batch: int) -> dict[str, object]:
    """A row: permutations cut into batches."""
    ids, sizes = np.arange(clients), np.full(clients, samples)
    turn, at = drawn_round(0, 1, ids, sizes, Cut(1, min(batch, samples))), np.arange(clients)
    for ours, theirs in zip(turn.packed(at)[:2], by_numpy(turn, at)[:2], strict=True):
        assert torch.equal(ours, theirs)
    what = f"batches of {clients} clients x {samples} samples, B = {batch}"
    return {
        "what": what,
        "ms": best(lambda: turn.packed(at)),
        "numpy_ms": best(lambda: by_numpy(turn, at)),
    }


def of_cohorts(population: int, cohort: int) -> dict[str, object]:
    """A row: who takes part."""
    ids = np.arange(population)
    assert (draws.choose(0, 1, ids, cohort) == random.choose(0, 1, ids, cohort)).all()
    return {
        "what": f"a cohort of {cohort} of {population}",
        "ms": best(lambda: draws.choose(0, 1, ids, cohort)),
        "numpy_ms": best(lambda: random.choose(0, 1, ids, cohort)),
    }


def of_tosses(population: int, chance: float) -> dict[str, object]:
    """A row: each takes part with a chance."""
    ids, most = np.arange(population), population
    found = draws.toss(0, 1, ids, chance, most)
    assert (found == random.toss(0, 1, ids, chance)).all()
    return {
        "what": f"each of {population} with chance {chance:g}",
        "ms": best(lambda: draws.toss(0, 1, ids, chance, most)),
        "numpy_ms": best(lambda: random.toss(0, 1, ids, chance)),
    }


def of_crops(clients: int, steps: int, batch: int) -> dict[str, object]:
    """A row: how the images of all steps are moved and mirrored."""
    ids, packing = np.arange(clients), Packing.of(np.full(clients, steps))
    how = Augment(), (0, 1)
    ours = step_draws.crops(*how, ids, packing, batch)
    theirs = step_draws.crops_of(*how, ids[packing.client], packing.step, batch)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.numpy() == other).all()
    return {
        "what": f"crops of {clients} clients x {steps} steps, B = {batch}",
        "ms": best(lambda: step_draws.crops(*how, ids, packing, batch)),
        "numpy_ms": best(
            lambda: step_draws.crops_of(*how, ids[packing.client], packing.step, batch)
        ),
    }


def main(given: Sequence[str] | None = None) -> None:
    """Times everything, one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args(given).write
    torch.set_num_threads(1)
    kinds = (of_batches, BATCHES), (of_cohorts, COHORTS), (of_tosses, TOSSES), (of_crops, CROPS)
    for row in (of(*size) for of, sizes in kinds for size in sizes):
        print(f"{row['what']}: {row['ms']} ms, NumPy {row['numpy_ms']} ms", flush=True)
        if write:
            append("schedule", stamp(1) | row)


if __name__ == "__main__":
    main()
