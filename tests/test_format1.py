"""States of format 1, whose rows held every float of a module, constants too, and no counters."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from federation import arrays
from interrupts import differences, everything
from torch import nn

import fedfast
from fedfast import algorithms as alg
from fedfast.checkpoint.format1 import _matches

HERE = Path(__file__).parent / "states"


class Masked(nn.Module):
    """BatchNorm, a frozen layer and a constant buffer between the trained ones."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.norm = nn.BatchNorm1d(6)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.register_buffer("mask", torch.tensor([1.0, 0, 1, 1, 0.5, 2]))
        self.tied = nn.Linear(6, 4)

    def forward(self, x):
        return self.tied(torch.tanh(self.frozen(self.norm(self.first(x)))) * self.mask)


def normed():
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))


KINDS = {
    "masked-keep": (Masked, alg.FedAvg(keep_models=True)),
    "masked-tuned": (Masked, alg.FedAvg(fine_tune=alg.FineTune(layers="all"))),
    "norm-dyn": (normed, alg.FedDyn()),
}


def simulation(kind, change=lambda model: None, **options):
    """The run whose state the code of then wrote, after three rounds (tuned: after all six)."""
    make, algorithm = KINDS[kind]
    torch.manual_seed(5)
    model = make()
    change(model)
    xs, ys = arrays([10, 5, 14, 5, 31, 3, 9, 22, 6, 13])
    data = fedfast.FederatedData.from_arrays(xs, ys)
    how = dict(rounds=6, participation=0.4, local_epochs=2, batch_size=64, lr=0.1)
    (x,), (y,) = arrays([40])
    return fedfast.Simulation(model, data, algorithm, test=(x, y), **(how | options))


def models(sim):
    """Everybody's models: the global one, and those of the clients that have any."""
    own = sim._personal.kept()
    found = [sim.state_dict(), *(sim.client_state_dict(i) for i in range(10) if own)]
    # Counters begin anew where a state has none.
    return [
        {k: v for k, v in model.items() if not k.endswith("num_batches_tracked")} for model in found
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_moved_to_their_place_by_name(kind, tmp_path):
    sim, whole = simulation(kind), simulation(kind)
    sim.load(HERE / f"{kind}.pt")
    for _ in zip(range(sim.round), whole, strict=False):
        pass
    sim.save(tmp_path / "state.pt")
    again = simulation(kind, metric="none", verify=False)  # neither changes a model
    again.load(tmp_path / "state.pt")
    for _ in range(2):
        for mine, theirs in zip(models(again), models(whole), strict=True):
            for name, t in theirs.items():
                assert (mine[name] - t).abs().max() < 1e-5, name
        for run in (again, whole):
            run.run(progress=False)


def weight(model):
    model.frozen.weight.data[0, 0] += 1e-3


def mask(model):
    model.mask[1] = 1.0


@pytest.mark.parametrize("kind", ["masked-keep", "masked-tuned"])
@pytest.mark.parametrize(("change", "name"), [(weight, "frozen.weight"), (mask, "mask")])
def test_other_constants_are_another_run(kind, change, name, tmp_path):
    paths = HERE / f"{kind}.pt", tmp_path / "state.pt"
    simulation(kind).save(paths[1])
    for path in paths:
        sim = simulation(kind, change)
        before = everything(sim)
        with pytest.raises(ValueError, match=rf"{path.name}.*model\..*{name}"):
            sim.load(path)
        assert not differences(everything(sim), before)


@dataclass(frozen=True)
class Inner:
    a: float = 1.0
    later: float | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    mu: float = 0.1


def test_fields_that_came_later_count_as_their_defaults():
    assert _matches("Outer(inner=Inner(a=2.0), mu=0.1)", Outer(Inner(2.0)))
    assert _matches("Outer(mu=0.1)", Outer())
    assert not _matches("Outer(inner=Inner(a=2.0), mu=0.1)", Outer(Inner(2.0, later=3.0)))
    assert not _matches("Outer(inner=Inner(a=1.0), mu=0.2)", Outer())
    assert not _matches("Outer(inner=Inner(a=1.0, gone=1), mu=0.1)", Outer())
    assert not _matches("Other(mu=0.1)", Outer()) and not _matches("<x>", Outer())


def test_nested_fields_that_came_later_are_defaults_of_identities_too():
    from fedfast.checkpoint.identity import _field_defaults

    found = _field_defaults(Outer(Inner(2.0)), "algorithm")
    assert found == {"algorithm.inner.a": 1.0, "algorithm.inner.later": None, "algorithm.mu": 0.1}
