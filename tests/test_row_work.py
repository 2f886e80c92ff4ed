"""Addends formed inside products and rows renewed behind them: the bits of passes of their own."""

import pytest
import torch
from federation import federation
from fedfast.kernels import native
from fedfast.kernels import plan as plans
from torch import nn

import fedfast
from fedfast.programs.step_executor import StepExecutor

NAMES = ("feddyn", "scaffold", "fedgamma", "fedspeed", "fedlesam-d")


TILED = 320  # inputs whose rows are whole cache lines: client rows follow tile by tile


def wide(frozen: bool = False, inputs: int = 300) -> nn.Module:
    """Rows of 80 KB, which go past the caches; 70 outputs: more than products take at once."""
    torch.manual_seed(0)
    layers = nn.Linear(inputs, 70), nn.ReLU(), nn.Linear(70, 33), nn.Tanh(), nn.Linear(33, 4)
    module = nn.Sequential(nn.Flatten(), *layers)
    if frozen:
        module[3].requires_grad_(False)
    return module


def rows_of_a_run(name, frozen=False, inputs=300, **options):
    """What clients of unlike numbers of steps keep in the end, and the model."""
    data = federation([9, 4, 13, 1, 6], shape=(inputs,))
    how = dict(rounds=4, lr=0.1, batch_size=4, participation=0.6, weight_decay=0.01) | options
    sim = fedfast.Simulation(wide(frozen, inputs), data, name, **how)
    sim.run(progress=False)
    clients = sim._engine.clients
    rows, _ = clients.export(clients.kept_ids())
    return [*rows.values(), *sim.state_dict().values()]


def apart(monkeypatch):
    """Every row in a pass of its own, before the steps and behind them."""
    monkeypatch.setattr(StepExecutor, "adds_in_products", lambda *_: False)
    monkeypatch.setattr(plans, "models_of", lambda *_: (0, 0, 0))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_no_bit_differs_from_passes_of_their_own(name, dtype, frozen, monkeypatch):
    inside = rows_of_a_run(name, frozen, dtype=dtype)
    apart(monkeypatch)
    passes = rows_of_a_run(name, frozen, dtype=dtype)
    assert len(inside) == len(passes) and inside[0].any()
    assert all(torch.equal(a, b) for a, b in zip(inside, passes, strict=True))


@pytest.mark.parametrize("options", [dict(clip_norm=0.5), dict(threads=2), dict(chunk=1)])
@pytest.mark.parametrize("name", ["feddyn", "scaffold"])
def test_nor_under_a_clip_or_with_other_threads_or_chunks(name, options, monkeypatch):
    inside = rows_of_a_run(name, **options)
    apart(monkeypatch)
    passes = rows_of_a_run(name, clip_norm=options.get("clip_norm"))
    assert all(torch.equal(a, b) for a, b in zip(inside, passes, strict=True))


@pytest.mark.parametrize("name", ["feddyn", "scaffold"])
def test_float32_rows_are_those_of_float64(name):
    """Up to rounding: the sums are the right ones."""
    ours, exact = rows_of_a_run(name), rows_of_a_run(name, dtype=torch.float64)
    for a, b in zip(ours, exact, strict=True):
        assert (a.double() - b).norm() <= 1e-4 * (1e-3 + b.norm())


@pytest.mark.parametrize("isa", [0, 1, 2], ids=("portable", "avx2", "avx512"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["feddyn", "scaffold"])
def test_no_bit_differs_where_rows_follow_tile_by_tile(name, dtype, isa, monkeypatch):
    native.module.gemm_limit(isa)
    try:
        inside = rows_of_a_run(name, inputs=TILED, dtype=dtype)
        apart(monkeypatch)
        passes = rows_of_a_run(name, inputs=TILED, dtype=dtype)
    finally:
        native.module.gemm_limit(2)
    assert inside[0].any()
    assert all(torch.equal(a, b) for a, b in zip(inside, passes, strict=True))
