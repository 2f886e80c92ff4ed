"""Clients of unlike length against equal ones of the same work: `python bench/bench_uneven.py`.

    --only mlp-fedavg,…  some of the cases, all by default
    --threads 1,2        cores, one number after another
    --rounds n           timed rounds of each, 5 by default
    --write              append rows to bench/results/uneven.csv

A cohort of 100 clients has the sizes of a log-normal distribution's quantiles, from 1 to 10,000
samples; the equal one has as many clients of the mean size, in whole batches. The two take turns
round by round after one that warms up. All of a round is timed: its schedule, the local steps, the
sums. "of equal" is the ratio of their rates, samples per second of the median round. "waiting" is
the share of the cores' time in which no thread of this process ran: 1 - CPU time / (threads x
time). Both are worth something on a quiet machine only, where others take no time ("elsewhere");
"by CPU time" is the ratio of samples per second of CPU time, which holds on a busy one too, but
does not see who waits.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a thread that waits must not look busy

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from alternate import Usage, alternate
from result_files import append, commit, processor, quantiles, stamp
from sizes import pick
from torch.nn.functional import cross_entropy
from workloads import BY_NAME, CLASSES, LR, Workload

from fedfast import FederatedData, Simulation
from fedfast.data import Samples

CLIENTS, MOST, ROUNDS = pick(100, 4), pick(10_000, 9), 5


def log_normal(clients: int, most: int) -> np.ndarray:
    """Sizes of `clients` from 1 to `most`: a log-normal distribution's quantiles, shuffled."""
    normal = NormalDist()
    z = np.array([normal.inv_cdf((i + 0.5) / clients) for i in range(clients)])
    sizes = np.rint(most ** (0.5 + z / (2 * z[-1]))).astype(np.int64)
    return np.random.default_rng(0).permutation(sizes)


@dataclass(frozen=True)
class Case:
    """A model and batch size of bench/workloads.py, and how it is trained.

    workload  its name
    most      samples of the longest client
    images    samples are bytes
    """

    workload: str
    algorithm: str
    most: int = MOST
    images: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def simulation(self, sizes: np.ndarray, rounds: int, threads: int) -> Iterator[object]:
        """Its rounds, in which every client takes part."""
        work: Workload = BY_NAME[self.workload]
        return iter(
            Simulation(
                work.module(),
                data(sizes, work.shape, self.images),
                self.algorithm,
                rounds=rounds,
                participation=1.0,
                batch_size=work.batch,
                lr=LR,
                threads=threads,
                **self.options,
            )
        )


def _options(**options: object) -> Mapping[str, Any]:
    return MappingProxyType(options)


# The last ones do not take all steps of a client in one call.
CASES = {
    "mlp-fedavg": Case("W3", "fedavg"),
    "mlp-fedsam": Case("W3", "fedsam"),
    "cnn-fedavg": Case("W1b", "fedavg"),
    "cnn-fedsam": Case("W1b", "fedsam"),
    "cnn-augmented": Case("W1b", "fedavg", images=True, options=_options(augment="crop-flip")),
    "mlp-scaffold": Case("W3", "scaffold"),
    "mlp-asam": Case("W3", "fedasam"),
    "cnn-module": Case("W1b", "fedavg", min(MOST, 1000), options=_options(loss=cross_entropy)),
}


def data(sizes: np.ndarray, shape: tuple[int, ...], images: bool) -> FederatedData:
    """Synthetic samples of clients of these sizes."""
    generator, n = torch.Generator().manual_seed(0), int(sizes.sum())
    x = torch.randn(n, *shape, generator=generator)
    y = torch.randint(CLASSES, (n,), generator=generator)
    ends = np.cumsum(sizes)
    owned = [np.arange(b - size, b) for b, size in zip(ends, sizes, strict=True)]
    return FederatedData.from_index(Samples((64 * x + 128).byte() if images else x, y), owned)


@dataclass(frozen=True)
class Cohorts:
    """Of both: sizes, seconds of their rounds, and of CPU time within them."""

    sizes: dict[str, np.ndarray]
    seconds: dict[str, list[float]]
    busy: dict[str, list[float]]
    elsewhere: float

    def rate(self, name: str, seconds: Mapping[str, Sequence[float]] | None = None) -> float:
        """Samples per second of the median round."""
        return float(self.sizes[name].sum() / np.median((seconds or self.seconds)[name]))

    def of_equal(self, seconds: Mapping[str, Sequence[float]] | None = None) -> float:
        """The rate of unlike clients over that of equal ones."""
        return round(self.rate("uneven", seconds) / self.rate("equal", seconds), 3)

    def waiting(self, name: str, threads: int) -> float:
        """The share of the cores' time in which no thread of this process ran."""
        spent = float(np.median(self.busy[name]) / np.median(self.seconds[name]))
        return round(1 - spent / threads, 3)


def compared(case: Case, rounds: int, threads: int) -> Cohorts:
    """Rounds of both cohorts, in turns."""
    batch = BY_NAME[case.workload].batch
    uneven = log_normal(CLIENTS, case.most)
    mean = max(1, round(uneven.mean() / batch)) * batch
    sizes = {"uneven": uneven, "equal": np.full(CLIENTS, mean)}
    runs = {name: case.simulation(of, rounds + 1, threads) for name, of in sizes.items()}
    busy: dict[str, list[float]] = {name: [] for name in sizes}

    def round_of(name: str) -> None:
        before = time.process_time()
        next(runs[name])
        busy[name].append(time.process_time() - before)

    before = Usage.now()
    actions = {name: lambda name=name: round_of(name) for name in sizes}
    seconds = alternate(actions, rounds, clock=time.perf_counter)
    after = {name: each[1:] for name, each in busy.items()}
    return Cohorts(sizes, seconds, after, Usage.now().elsewhere(before))


def row(name: str, case: Case, found: Cohorts, threads: int) -> dict[str, object]:
    """A row of results/uneven.csv."""
    uneven = found.sizes["uneven"]
    return {
        **stamp(threads),
        "case": name,
        "workload": case.workload,
        "algorithm": case.algorithm,
        "clients": len(uneven),
        "most": int(uneven.max()),
        "samples": int(uneven.sum()),
        **quantiles(found.seconds["uneven"]),
        "samples_per_s": round(found.rate("uneven")),
        "equal_samples_per_s": round(found.rate("equal")),
        "of_equal": found.of_equal(),
        "of_equal_by_cpu": found.of_equal(found.busy),
        "waiting": found.waiting("uneven", threads),
        "equal_waiting": found.waiting("equal", threads),
        "elsewhere": round(found.elsewhere, 3),
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(CASES), help=f"some of {','.join(CASES)}")
    parser.add_argument("--threads", default="1,2", help="cores, one number after another")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed rounds of each")
    parser.add_argument("--write", action="store_true", help="append rows to uneven.csv")
    options = parser.parse_args(argv)
    unknown = set(options.only.split(",")) - set(CASES)
    if unknown:
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = arguments(argv)
    print(f"{processor()}, torch {torch.__version__}, commit {commit()}\n")
    for name in options.only.split(","):
        for threads in map(int, options.threads.split(",")):
            torch.set_num_threads(threads)
            found = compared(CASES[name], options.rounds, threads)
            r = row(name, CASES[name], found, threads)
            print(
                f"{name:14} {threads} threads: {r['samples_per_s']:>9,} samples/s, equal clients "
                f"{r['equal_samples_per_s']:>9,}: {r['of_equal']:.1%} of equal, by CPU "
                f"time {r['of_equal_by_cpu']:.1%}; waiting "
                f"{r['waiting']:.1%} ({r['equal_waiting']:.1%}), elsewhere {r['elsewhere']:.0%}",
                flush=True,
            )
            if options.write:
                append("uneven", r)


if __name__ == "__main__":
    main()
