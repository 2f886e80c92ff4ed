"""Ascents that a client's plan repeats: the bits of the same hooks called step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from federation import federation, mlp
from fedfast.kernels import PlacedRows

import fedfast
from fedfast import client_loop
from fedfast.aggregation import COLUMNS, _blocks
from fedfast.algorithms import FedAvg, by_name
from fedfast.algorithms.drift import Drift
from fedfast.algorithms.feddyn import Dual
from fedfast.algorithms.fedlesam import LESAM, FedLESAM
from fedfast.algorithms.hooks import Sum
from fedfast.algorithms.servers import Average
from fedfast.executor import Capabilities
from fedfast.fusion_rules import fusions_for

METHODS = ("fedlesam", "fedlesam-s", "fedlesam-d", "fedwmsam", "fedsmoo")
NETWORK = Capabilities(folds=True, clips=True, sam=True, plans=True)
SIZES = (9, 4, 13, 1, 6)


def ended(algorithm, clip_norm=None, **options):
    """What clients keep, and the model, after rounds whose clients come again."""
    data = federation(list(SIZES), shape=(2, 2, 2))
    options |= dict(rounds=4, batch_size=4, participation=0.6, local_epochs=2, lr=0.2)
    sim = fedfast.Simulation(mlp(), data, algorithm, clip_norm=clip_norm, **options)
    sim.run(progress=False)
    clients = sim._engine.clients
    rows, _ = clients.export(clients.kept_ids())
    return [*(rows[name] for name in sorted(rows)), *sim.state_dict().values()]


def step_by_step(monkeypatch):
    """Nothing is recorded but single steps; all else is as ever."""

    def fewer(algorithm, clip_norm, can):
        return replace(fusions_for(algorithm, clip_norm, can), rounds=False, ascent=False)

    monkeypatch.setattr(client_loop, "fusions_for", fewer)


def assert_same(found, expected):
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("clip_norm", [None, 0.3])
@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("name", METHODS)
def test_bits_are_those_of_the_hooks(name, variant, clip_norm, monkeypatch):
    algorithm = by_name(name)
    if hasattr(algorithm, "variant"):
        algorithm = replace(algorithm, variant=variant)
    elif variant == "official":
        pytest.skip("it has one form")
    found = ended(algorithm, clip_norm)
    step_by_step(monkeypatch)
    assert_same(found, ended(algorithm, clip_norm))


@pytest.mark.parametrize("name", METHODS)
def test_chunks_and_threads_leave_no_trace(name):
    assert_same(ended(name, memory=2, threads=2), ended(name))


@pytest.mark.parametrize("name", ["fedlesam", "fedsmoo"])
def test_a_radius_of_each_round_is_read(name, monkeypatch):
    algorithm = replace(by_name(name), rho=lambda t: 0.05 * (1 + t))
    found = ended(algorithm)
    assert not torch.equal(found[-1], ended(name)[-1])
    step_by_step(monkeypatch)
    assert_same(found, ended(algorithm))


def test_only_hooks_of_ours_are_recorded():
    class Own(LESAM):
        def ascend(self, at, g, out):
            out.copy_(at.w)

    class Begins(LESAM):
        def begin(self, at):
            super().begin(at)

    assert fusions_for(FedAvg(local=LESAM()), None, NETWORK).ascent
    for local in (Own(), Begins()):
        found = fusions_for(FedAvg(local=local, drift=Dual()), None, NETWORK)
        assert not found.ascent and not found.rounds


class Begins(FedLESAM):
    def begin(self, at):
        super().begin(at)
        at.scratch["e"].mul_(3.0)


class Uploads(FedLESAM):
    def upload(self, at):
        at.w.add_(at.scratch["e"])


class Finishes(Drift):
    seen = []

    def finish(self, at):
        self.seen.append(at.scratch["e"].clone())
        return {}


class SumsUp(Average):
    server_rows = ("mean",)

    def sums(self, cohort):
        return [Sum("mean", cohort.weights, keep=0.0, of="e")]

    def added(self):
        return {"mean": 1.0}


@pytest.mark.parametrize(
    "algorithm",
    [
        Begins(),
        Uploads(),
        FedAvg(local=LESAM(), drift=Finishes()),
        FedAvg(local=LESAM(), server=SumsUp()),
    ],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_hooks_of_others_find_the_perturbation(algorithm, monkeypatch):
    seen = Finishes.seen
    seen.clear()
    found = [*ended(algorithm), *seen]
    seen.clear()
    step_by_step(monkeypatch)
    assert_same(found, [*ended(algorithm), *seen])


def test_placed_rows_are_gathered_column_by_column():
    table = torch.randn(7, 2 * COLUMNS + 5)
    rows = PlacedRows(table, torch.tensor([5, 0, 3]))
    parts = list(_blocks(rows))
    assert [part.shape[1] for part, _ in parts] == [COLUMNS, COLUMNS, 5]
    assert torch.equal(torch.cat([part for part, _ in parts], dim=1), rows.gathered())
    assert all(torch.equal(part, rows.gathered()[:, where]) for part, where in parts)
