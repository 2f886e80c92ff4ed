"""Memory planned for a run against its peak: `python bench/bench_memory.py`.

Each case is a process of its own. Its peak is the most resident memory while the simulation is
built and run, less what was resident just before (interpreter, torch, the samples), after a tiny
run that loads what is loaded once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import result_files
import torch

CASES = (
    ("mlp", "fedavg", 40, 40, "auto"),
    ("mlp", "fedsam", 40, 40, "auto"),
    ("mlp", "scaffold", 150, 30, "auto"),
    ("mlp", "feddyn", 100, 30, "auto"),
    ("mlp", "scaffold", 150, 30, "0.8"),
    ("cnn", "fedavg", 20, 20, "auto"),
)
SAMPLES, BATCH, ROUNDS = 20, 10, 3
THREADS = torch.get_num_threads()


def resident(key: str) -> int:
    """Bytes of a line of the process's status, Linux: VmRSS now, VmHWM at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    raise OSError(f"no {key} in /proc/self/status")


def measure(model: str, algorithm: str, clients: int, cohort: int, memory: str) -> dict[str, int]:
    """Bytes planned and at the peak, and K."""
    from torch import nn

    import fedfast

    def federation(count: int) -> fedfast.FederatedData:
        xs = [torch.randn(SAMPLES, 1, 28, 28) for _ in range(count)]
        return fedfast.FederatedData.from_arrays(xs, [torch.arange(SAMPLES) % 10] * count)

    def simulation(net: nn.Module, data: fedfast.FederatedData, **more: object) -> object:
        test = torch.randn(100, 1, 28, 28), torch.arange(100) % 10
        return fedfast.Simulation(net, data, algorithm, test=test, batch_size=BATCH, **more)

    made = {"mlp": mlp, "cnn": cnn}[model]()
    tiny = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    simulation(tiny, federation(2), rounds=1, local_epochs=1).run(progress=False)
    data = federation(clients)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident("VmRSS")
    budget = memory if memory == "auto" else float(memory)
    settings = dict(rounds=ROUNDS, participation=cohort / clients, local_epochs=1, memory=budget)
    run = simulation(made, data, **settings)
    run.run(progress=False)
    held = sum(t.numel() * t.element_size() for t in (data.x, data.y))
    plan = run.memory
    planned = plan.each * plan.chunk + plan.fixed - (0 if memory == "auto" else held)
    return {"chunk": plan.chunk, "planned": planned, "peak": resident("VmHWM") - before}


def mlp() -> object:
    """One hidden layer of 1000, 0.8 million numbers."""
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 10))


def cnn() -> object:
    """FedAvg's, 1.7 million numbers."""
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 64)):
        conv = nn.Conv2d(inputs, outputs, 5, padding=2)
        layers += [conv, nn.ReLU(), nn.MaxPool2d(2)]
    head = nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10)
    return nn.Sequential(*layers, *head)


def apart(case: tuple[object, ...]) -> dict[str, int]:
    """`measure` in a process of its own."""
    given = [sys.executable, __file__, "--case", *map(str, case)]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every case, or print one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs=5, help="model algorithm clients cohort memory, in JSON")
    case = parser.parse_args(argv).case
    if case:
        print(json.dumps(measure(case[0], case[1], int(case[2]), int(case[3]), case[4])))
        return
    (result_files.RESULTS / "memory.csv").unlink(missing_ok=True)
    for each in CASES:
        found, names = apart(each), ("model", "algorithm", "clients", "cohort", "memory")
        planned, peak = found["planned"] / 1e6, found["peak"] / 1e6
        figures = {"planned_mb": round(planned), "peak_mb": round(peak)}
        row = dict(zip(names, each, strict=True), chunk=found["chunk"], **figures)
        result_files.append(
            "memory", result_files.stamp(THREADS) | row | {"ratio": f"{peak / planned:.3f}"}
        )
        print(row, flush=True)


if __name__ == "__main__":
    main()
