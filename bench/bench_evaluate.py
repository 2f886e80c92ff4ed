"""`Simulation.evaluate` beside the same module in torch: `python bench/bench_evaluate.py`.

    --threads 2     cores of both
    --write         append rows to bench/results/evaluate.csv

Models of bench/workloads.py, float32, Gaussian samples; torch takes 512 at a time in evaluation
mode without gradients. Contestants take turns; both must find the same loss.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from alternate import race
from result_files import Stamp, append, stamp
from simulators import Contestant
from workloads import CLASSES, WORKLOADS, Workload

from fedfast import FederatedData, Simulation

SAMPLES = {"W5": 200}  # others 2,000
ROUNDS = 7


@dataclass(frozen=True)
class Row(Stamp):
    """One model; a line of evaluate.csv. Medians; ratio: torch's over fedfast's."""

    workload: str
    samples: int
    median_s: float
    p20_s: float
    p80_s: float
    torch_median_s: float
    torch_p20_s: float
    torch_p80_s: float
    ratio: float
    elsewhere: float


def contest(workload: Workload, threads: int) -> Row:
    """Both on one model."""
    n = SAMPLES.get(workload.name, 2000)
    x, y = torch.randn(n, *workload.shape), torch.randint(CLASSES, (n,))
    data = FederatedData.from_arrays([x[:8]], [y[:8]])
    sim = Simulation(workload.module(), data, test=(x, y), rounds=1, threads=threads)
    module = sim.model().eval()

    @torch.no_grad()
    def rival(t: int) -> float:
        return float(F.cross_entropy(torch.cat([module(part) for part in x.split(512)]), y))

    assert abs(rival(0) - sim.evaluate()[1]) < 1e-4
    players = [
        Contestant("fedfast", "", "", 0.0, lambda t: sim.evaluate()),
        Contestant("torch", "", "", 0.0, rival),
    ]
    seconds, elsewhere = race(players, ROUNDS)
    ours, theirs = (
        [round(float(s), 5) for s in (statistics.median(times), *np.percentile(times, [20, 80]))]
        for times in seconds
    )
    return Row(
        *stamp(threads).values(),
        workload.name,
        n,
        *ours,
        *theirs,
        ratio=round(theirs[0] / ours[0], 3),
        elsewhere=round(elsewhere, 3),
    )


def main() -> None:
    """All workloads' models, each once (W3's is W2's)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    for workload in (w for w in WORKLOADS if w.name != "W3"):
        row = contest(workload, told.threads)
        print(
            f"{row.workload:<10} {row.samples} samples  fedfast {row.median_s:.3f} s  torch "
            f"{row.torch_median_s:.3f} s  x {row.ratio:.2f}  {row.elsewhere:.0%} elsewhere",
            flush=True,
        )
        if told.write:
            append("evaluate", vars(row))


if __name__ == "__main__":
    main()
