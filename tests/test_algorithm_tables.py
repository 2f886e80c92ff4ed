"""The document of algorithms, the traffic they declare, and the example of one's own."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from federation import federation, mlp
from test_oracles import RUNS

import fedfast
from fedfast import algorithms as alg
from fedfast.report import algorithm_tables

ROOT = Path(__file__).parent.parent

# Model sizes (down, up) at least, as the papers' own tables and arithmetic have them.
TRAFFIC = {
    "centralized": (0, 0),
    "fedcm": (2, 1),
    "mofedsam": (2, 1),
    "fedfsa": (2, 1),
    "scaffold": (2, 1),
    "fedgamma": (2, 1),
    "fedlesam-s": (2, 1),
    "fedsmoo": (2, 2),
    "naive-fedgloss": (2, 2),
    "fednsam-single": (2, 1),
    "fedwmsam": (2, 1),
}


def test_the_document_is_what_the_pages_say():
    assert (ROOT / "docs" / "algorithms.md").read_text(
        encoding="utf-8"
    ) == algorithm_tables.markdown()


def test_pages_that_claim_a_public_run_have_one():
    claimed = {name for name in alg.names() if alg.ALGORITHMS[name].verified == "public run"}
    assert claimed == {made.name for made in RUNS.values()}


@pytest.mark.parametrize("name", alg.names())
def test_traffic_in_model_sizes(name):
    assert alg.by_name(name).traffic() == TRAFFIC.get(name, (1, 1))


def test_other_options_other_traffic():
    assert alg.SCAFFOLD(option="I").traffic() == (2, 2)
    assert alg.SCAFFOLD(modified=True).traffic() == (1, 1)  # no correction, nothing to send
    assert alg.FedDyn(local=fedfast.SAM()).traffic() == (1, 1)


def test_history_counts_bytes():
    data, model = federation([5, 7, 4, 6]), mlp()
    weights = sum(p.numel() for p in model.parameters())
    sim = fedfast.Simulation(model, data, "fedcm", rounds=2, participation=0.5)
    for row in sim.run(progress=False):
        assert (row.bytes_down, row.bytes_up) == (2 * 2 * 2 * weights * 4 // 2, 2 * weights * 4)
    normed = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 4))
    trained, carried = 8 + 8 + 36, 8 + 8  # running statistics travel with the model, not with m
    sim = fedfast.Simulation(
        normed, data, "fedcm", rounds=1, participation=1.0, dtype=torch.float64
    )
    row = sim.run(progress=False).last()
    assert row.bytes_down == 4 * 8 * (2 * trained + carried)
    assert row.bytes_up == 4 * 8 * (trained + carried)


def test_an_algorithm_of_ones_own_is_its_formula():
    source = ROOT / "examples" / "tutorials" / "own_algorithm.py"
    memory = runpy.run_path(str(source))["Memory"]
    data = federation([8])
    batches = [[[list(range(8))] * 2]] * 3
    sim = fedfast.Simulation(
        mlp(dtype=torch.float64),
        data,
        alg.Algorithm(drift=memory(mu=0.3)),
        schedule=fedfast.Schedule.explicit([[0]] * 3, batches),
        lr=0.2,
        dtype=torch.float64,
    )
    sim.run(progress=False)
    v = mlp(dtype=torch.float64)
    x, y = data.client(0).x.double(), data.client(0).y
    u = [p.detach().clone() for p in v.parameters()]
    for _ in range(3):
        for _ in range(2):
            g = torch.autograd.grad(torch.nn.functional.cross_entropy(v(x), y), v.parameters())
            with torch.no_grad():
                for p, d, q in zip(v.parameters(), g, u, strict=True):
                    p -= 0.2 * (d + 0.3 * (p - q))
        u = [p.detach().clone() for p in v.parameters()]
    ours = sim.model()
    for a, b in zip(ours.parameters(), v.parameters(), strict=True):
        assert (a - b).abs().max() < 1e-12
