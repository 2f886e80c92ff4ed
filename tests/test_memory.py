"""How many clients fit a budget, counted by hand."""

import pytest
import torch
from torch import nn

from fedfast import FlatLayout, Schedule, memory
from fedfast.algorithms import FedAvg, FedAvgM, FedSAM
from fedfast.algorithms.optimizers import SAM


@pytest.mark.parametrize(
    ("algorithm", "banks"),
    [(FedAvg(), 2), (FedSAM(), 3), (FedAvgM(local=SAM(momentum=0.5)), 4)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunk_is_what_fits_a_share_of_free_memory(monkeypatch, algorithm, banks, dtype):
    layout = FlatLayout.of(nn.Linear(10, 10), dtype)  # 100 weights and 10 biases: 128 + 64 elements
    row = (128 + 64) * dtype.itemsize
    assert memory.bytes_per_client(layout, algorithm) == banks * row
    schedule = Schedule.draw(
        [1] * 50, rounds=1, participation=1.0, local_epochs=1, batch_size=1, seed=0
    )
    cpu = torch.device("cpu")
    for free_rows, expected in ((4 * banks * 7, 7), (4 * banks * 1000, 50), (1, 1)):
        monkeypatch.setattr(memory, "free_bytes", lambda _, n=free_rows: n * row)
        assert memory.clients_per_chunk(layout, algorithm, schedule, cpu, None) == expected
    assert memory.clients_per_chunk(layout, algorithm, schedule, cpu, 9) == 9
    assert memory.clients_per_chunk(layout, algorithm, schedule, cpu, 99) == 50


def test_free_memory_is_asked_of_the_system():
    assert 1 << 20 < memory.free_bytes(torch.device("cpu")) < 1 << 50


def test_what_caches_files_counts_as_free(monkeypatch, tmp_path):
    told = tmp_path / "meminfo"
    told.write_text("MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", told)
    assert memory.free_bytes(torch.device("cpu")) == 4000 * 1024
    told.unlink()
    assert 1 << 20 < memory.free_bytes(torch.device("cpu")) < 1 << 50
