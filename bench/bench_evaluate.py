"""`Simulation.evaluate` beside the same module in torch, on two threads.

Models of workloads.py, float32, Gaussian samples; torch takes 512 at a time in evaluation mode
without gradients. Both must find the same loss.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from marks import beside
from sizes import pick
from workloads import BY_NAME, CLASSES

from fedfast import FederatedData, Simulation

SAMPLES = pick({"W5": 200}, dict.fromkeys(BY_NAME, 4))  # others 2,000


@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.parametrize("name", [n for n in BY_NAME if n != "W3"])
@beside("torch")
def test_evaluate(name: str, threads: int, contestant: str, benchmark: Any) -> None:
    workload, n = BY_NAME[name], SAMPLES.get(name, 2000)
    x, y = torch.randn(n, *workload.shape), torch.randint(CLASSES, (n,))
    data = FederatedData.from_arrays([x[:8]], [y[:8]])
    sim = Simulation(workload.module(), data, test=(x, y), rounds=1, threads=threads)
    module = sim.model().eval()

    @torch.no_grad()
    def in_torch() -> float:
        return float(F.cross_entropy(torch.cat([module(part) for part in x.split(512)]), y))

    assert abs(in_torch() - sim.evaluate()[1]) < 1e-4
    benchmark.group = f"evaluate {name}"
    benchmark.extra_info["samples"] = n
    action = {"fedfast": sim.evaluate, "torch": in_torch}[contestant]
    benchmark.pedantic(action, rounds=7, warmup_rounds=1)
