"""`Simulation.evaluate` beside the same module in torch: `python bench/bench_evaluate.py`.

    --threads 2     cores of both
    --write         append rows to bench/results/evaluate.csv

Models of bench/workloads.py, float32, Gaussian samples; torch takes 512 at a time in evaluation
mode without gradients. They take turns; both must find the same loss.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import torch.nn.functional as F
from alternate import alternate_rounds
from result_files import append, quantiles, stamp
from workloads import CLASSES, WORKLOADS, Workload

from fedfast import FederatedData, Simulation

SAMPLES = {"W5": 200}  # others 2,000
ROUNDS = 7


def measure(workload: Workload, threads: int) -> dict[str, Any]:
    """Both on one model: a row of evaluate.csv. Medians; ratio: torch's over fedfast's."""
    n = SAMPLES.get(workload.name, 2000)
    x, y = torch.randn(n, *workload.shape), torch.randint(CLASSES, (n,))
    data = FederatedData.from_arrays([x[:8]], [y[:8]])
    sim = Simulation(workload.module(), data, test=(x, y), rounds=1, threads=threads)
    module = sim.model().eval()

    @torch.no_grad()
    def in_torch(t: int) -> float:
        return float(F.cross_entropy(torch.cat([module(part) for part in x.split(512)]), y))

    assert abs(in_torch(0) - sim.evaluate()[1]) < 1e-4
    both = [lambda t: sim.evaluate(), in_torch]
    (ours, theirs), elsewhere = alternate_rounds(both, ROUNDS)
    figures = quantiles(ours) | quantiles(theirs, prefix="torch_")
    return {
        **stamp(threads),
        "workload": workload.name,
        "samples": n,
        **figures,
        "ratio": round(figures["torch_median_s"] / figures["median_s"], 3),
        "elsewhere": round(elsewhere, 3),
    }


def main() -> None:
    """All workloads' models, each once (W3's is W2's)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for workload in (w for w in WORKLOADS if w.name != "W3"):
        row = measure(workload, options.threads)
        print(
            f"{row['workload']:<10} {row['samples']} samples  fedfast {row['median_s']:.3f} s  "
            f"torch {row['torch_median_s']:.3f} s  x {row['ratio']:.2f}  "
            f"{row['elsewhere']:.0%} elsewhere",
            flush=True,
        )
        if options.write:
            append("evaluate", row)


if __name__ == "__main__":
    main()
