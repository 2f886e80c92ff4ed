"""Until the first round: `python bench/bench_start.py [--write]`.

import   seconds of `import torch`, and beyond it of `import fedfast` with every name that a run
         needs; each in a process of its own
make     seconds of `Simulation(...)`, MLP 784-200-10 and 100 clients of 20 samples, verified: the
         first of a process and the next
--write keeps a row in results/start.csv.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from result_files import append, stamp
from sizes import pick

REPEATS = pick(5, 1)
IMPORTS = """
import time
begin = time.perf_counter()
import torch
torch_done = time.perf_counter()
import fedfast
fedfast.Simulation, fedfast.data, fedfast.models
print(torch_done - begin, time.perf_counter() - torch_done)
"""
MAKES = """
import time
import numpy as np, torch, fedfast
from fedfast.data import Samples
torch.manual_seed(0)
samples = Samples(torch.randn(2000, 1, 28, 28), torch.randint(10, (2000,)))
clients = fedfast.FederatedData.from_index(samples, np.arange(2000).reshape(100, 20))
model = fedfast.models.build("mlp", input_shape=(1, 28, 28), classes=10)
make, times = fedfast.Simulation, []
for _ in range(5):
    begin = time.perf_counter()
    make(model, clients, "fedavg", rounds=2, participation=0.1, batch_size=10)
    times.append(time.perf_counter() - begin)
print(times[0], sorted(times[1:])[len(times) // 2])
"""


def median_of(program: str) -> list[float]:
    """The numbers that a program prints, each the median over some processes."""
    runs = []
    for _ in range(REPEATS):
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )
        runs.append([float(word) for word in done.stdout.split()])
    return [round(float(v), 4) for v in np.median(runs, axis=0)]


def main(given: Sequence[str] | None = None) -> None:
    """Prints and perhaps keeps the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args(given).write
    (base, beyond), (first, later) = median_of(IMPORTS), median_of(MAKES)
    print(f"import torch {base} s; import fedfast beyond it {beyond} s")
    print(f"Simulation(...): the first {first} s, later ones {later} s")
    if write:
        figures = {"torch_s": base, "fedfast_s": beyond, "first_s": first, "later_s": later}
        append("start", stamp(1) | figures)


if __name__ == "__main__":
    main()
