"""A run takes what it plans, clients' rows between rounds included; a small budget is reported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from federation import federation, mlp
from torch import nn

import fedfast
from fedfast import FlatLayout, memory
from fedfast.algorithms import SCAFFOLD, FedAvg

BENCH = Path(__file__).parent.parent / "bench" / "bench_memory.py"
SLACK = 32 << 20  # allocator, thread stacks, what the libraries load late


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read in /proc")
@pytest.mark.parametrize("budget", ["auto", "0.8"])
def test_a_run_takes_what_its_plan_says(budget: str) -> None:
    given = [sys.executable, str(BENCH), "--case", "mlp", "scaffold", "150", "30", budget]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["planned"] > 300e6
    assert abs(found["peak"] - found["planned"]) < 0.1 * found["planned"] + SLACK
    assert budget == "auto" or found["planned"] <= 0.8 * memory.GIB


def test_rows_that_clients_keep_are_counted() -> None:
    layout = FlatLayout.of(nn.Linear(10, 10), torch.float32)
    assert memory.row_widths(layout, FedAvg()) == {}
    assert memory.row_widths(layout, SCAFFOLD()) == {"c_i": layout.trained}
    assert memory.taking_part(1000, 1, 10) == 0
    assert memory.taking_part(150, 3, 30) == 54  # 1 - 0.8^2 of them
    assert memory.taking_part(150, 99, 30) == 150
    draw = torch.Generator().manual_seed(0)
    met = [set[int]() for _ in range(200)]
    for own in met:
        for _ in range(9):
            own |= set(torch.randperm(50, generator=draw)[:10].tolist())
    mean = sum(map(len, met)) / len(met)
    assert abs(memory.taking_part(50, 10, 10) - mean) < 1


def test_a_budget_too_small_says_for_what() -> None:
    sizes = [9, 4, 13, 4]
    settings = dict(rounds=2, participation=1.0, local_epochs=1, batch_size=4)
    with pytest.raises(ValueError, match="memory: expected at least") as said:
        fedfast.Simulation(mlp(), federation(sizes), "scaffold", memory=1e-7, **settings)
    for part in ("samples", "server's rows", "clients' rows", "one client"):
        assert part in str(said.value)


def test_many_rows_of_clients_do_not_take_clients_from_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 4 * (50 + 700))
    made = memory.plan("auto", None, 50, 100, 50, 1000, torch.device("cpu"), 5000)
    assert (made.chunk, made.fixed) == (7, 5050)
    assert "needs up to 5.62 KiB" in caplog.text
