"""Memory that runs of large populations were said to take, and took:
`python bench/bench_population_memory.py`.

Stateless rounds of 1,000,000 and 10,000,000 clients and stateful ones of 100,000, cohorts of 100,
an MLP 784-200-10. Each is a process of its own: resident memory at its peak, less what was resident
just before the simulation was made (interpreter, torch, samples, the clients' index), after a tiny
run that loads what is loaded once. "auto" tiers keep rows in memory here; "disk" in a file, whose
pages are not the process's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import result_files
import torch
from bench_client_rows import BATCH, COHORT, federation
from bench_memory import resident
from torch import nn

import fedfast
from fedfast.algorithms import by_name

CASES = (
    ("fedavg", 1_000_000, 10, "auto"),
    ("fedavg", 10_000_000, 10, "auto"),
    ("fedsam", 1_000_000, 10, "auto"),
    ("feddyn", 100_000, 40, "auto"),
    ("scaffold", 100_000, 40, "auto"),
    ("fedgloss", 100_000, 40, "auto"),
    ("fedgloss", 100_000, 40, "disk"),
)


def simulation(
    data: fedfast.FederatedData, algorithm: str, rounds: int, tier: str, folder: str, width: int
) -> fedfast.Simulation:
    """A run of cohorts of 100 at most."""
    net = nn.Sequential(nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))
    share = min(1.0, COHORT / data.num_clients)
    how = dict(client_rows=tier, client_rows_folder=folder, batch_size=BATCH, lr=0.01)
    return fedfast.Simulation(
        net, data, by_name(algorithm), rounds=rounds, participation=share, **how
    )


def measure(algorithm: str, clients: int, rounds: int, tier: str) -> dict[str, object]:
    """Bytes said and taken, and where rows were kept."""
    with tempfile.TemporaryDirectory() as folder:
        simulation(federation(20), algorithm, 2, tier, folder, 8).run(progress=False)
        data = federation(clients)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = resident("VmRSS")
        sim = simulation(data, algorithm, rounds, tier, folder, 200)
        sim.run(progress=False)
        plan = sim.memory
        said, taken = plan.each * plan.chunk + plan.fixed, resident("VmHWM") - before
    return {"tier": sim.rows.name, "chunk": plan.chunk, "said": said, "taken": taken}


def apart(case: tuple[object, ...]) -> dict[str, object]:
    """`measure` in a process of its own."""
    given = [sys.executable, __file__, "--case", *map(str, case)]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every case, or print one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs=4, help="algorithm clients rounds tier, in JSON")
    case = parser.parse_args(argv).case
    if case:
        print(json.dumps(measure(case[0], int(case[1]), int(case[2]), case[3])))
        return
    for each in CASES:
        found, names = apart(each), ("algorithm", "clients", "rounds", "client_rows")
        said, taken = (int(str(found[name])) for name in ("said", "taken"))
        row = dict(zip(names, each, strict=True), kept=found["tier"], chunk=found["chunk"])
        row |= {"said_mb": said // 10**6, "taken_mb": taken // 10**6}
        row["ratio"] = f"{taken / said:.3f}"
        print(row, flush=True)
        result_files.append("population_memory", result_files.stamp(torch.get_num_threads()) | row)


if __name__ == "__main__":
    main()
