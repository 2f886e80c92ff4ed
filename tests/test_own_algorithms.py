"""Hooks of one's own are called, whatever way they were given, and misspelt ones are errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from federation import federation, flat, mlp

import fedfast
from fedfast import algorithms as alg
from fedfast.algorithms import Direction, Drift, ServerRule
from fedfast.algorithms.hooks import Sum

SIZES = [9, 14, 5, 7]


class Hooked(torch.nn.Module):
    """The same network where no layer program can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return self.net(x) if float(x.sum()) > -1e9 else self.net(x)


def run(algorithm, generic=False, **kwargs):
    """The weights after two rounds in which everybody takes part."""
    options = dict(rounds=2, participation=1.0, batch_size=4, lr=0.1, clip_norm=1.0) | kwargs
    model = Hooked() if generic else mlp()
    sim = fedfast.Simulation(model, federation(SIZES), algorithm, **options)
    assert bool(sim.generic_because) == generic or algorithm.local.own_loss
    sim.run(progress=False)
    return flat(sim.state_dict())


def close(a, b):
    return torch.allclose(a, b, atol=1e-6)


def wide(self, at, terms):
    return Direction([(terms, 1.0), (at.w, 1e-1)])


class Mixin:
    def correct(self, at, terms):
        return wide(self, at, terms)


class Subclass(Drift):
    correct = wide


class Mixed(Mixin, Drift):
    pass


class Late(Drift):
    pass


Late.correct = wide


class Lies(Drift):
    plain = True
    correct = wide


@dataclass(frozen=True)
class Given(Drift):
    correct: Any = field(default=lambda at, terms: wide(None, at, terms))


def on_object():
    drift = Drift()
    object.__setattr__(drift, "correct", lambda at, terms: wide(None, at, terms))
    return drift


WAYS = [Subclass, Mixed, Late, Lies, Given, on_object]


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("local", [alg.SGD(), alg.SAM(rho=0.05)])
@pytest.mark.parametrize("way", WAYS)
def test_a_correction_counts_however_it_was_given(way, local, generic):
    # `0.1 w` as a correction is weight decay of 0.1 where nothing is clipped.
    ours = run(alg.Algorithm(local=local, drift=way()), generic, clip_norm=None)
    theirs = run(alg.Algorithm(local=local), generic, clip_norm=None, weight_decay=0.1)
    assert close(ours, theirs)


def test_a_base_method_replaced_is_seen(monkeypatch):
    plain = run(alg.FedSAM(rho=0.5))
    ascend = alg.SAM.ascend
    monkeypatch.setattr(alg.SAM, "ascend", lambda self, at, g, out: out.copy_(at.w))
    assert close(run(alg.FedSAM(rho=0.5)), run(alg.FedAvg()))
    monkeypatch.setattr(alg.SAM, "ascend", ascend)
    assert torch.equal(run(alg.FedSAM(rho=0.5)), plain)
    monkeypatch.setattr(Drift, "correct", wide)
    assert not close(run(alg.FedAvg()), run(alg.FedAvg(), weight_decay=0.0, lr=1e-9))


class AscendOnly(alg.SGD):
    def ascend(self, at, g, out):
        torch.add(at.w, 0.05 * g / (g.norm(dim=1, keepdim=True) + 1e-12), out=out)


class ScalesOnly(alg.SAM):
    def scales(self, at, length):
        return (0.05 / (length + 1e-12))[:, None].expand(-1, len(at.layout.names))


class RadiiOnly(alg.SAM):
    def radii(self, at):
        return alg.LayerRadii(torch.full((len(at), len(at.layout.names)), 0.05).to(at.w), 1e-12)


class ScalesOfFSA(alg.FSA):
    scales = ScalesOnly.scales


class AscendOfFSA(alg.FSA):
    ascend = AscendOnly.ascend


class TermsOfSAM(alg.SAM):
    def terms(self, at):
        assert torch.allclose((at.ahead - at.w).norm(dim=1), torch.tensor(0.05), atol=1e-5)
        return at.g


class ByObjective(alg.SAM):
    def objective(self, at, looking):
        return lambda net, x, y, k: net.loss(net(x), y)


SHARP = [AscendOnly(), ScalesOnly(rho=9.0), AscendOfFSA(rho_default=9.0), TermsOfSAM(rho=0.05)]
SHARP += [RadiiOnly(rho=9.0), ScalesOfFSA(rho_default=9.0)]


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("local", [*SHARP, ByObjective(rho=0.05)])
def test_an_ascent_of_ones_own_is_taken(local, generic):
    ours, theirs = run(alg.Algorithm(local=local), generic), run(alg.FedSAM(rho=0.05), generic)
    assert close(ours, theirs)


class Twice(alg.SGD):
    def terms(self, at):
        return [(at.g, 2.0)]


class TwiceDirection(alg.FedAvg):
    def direction(self, at):
        return Direction([(at.g, 2.0)])


class TwiceRate(alg.FedAvg):
    def rate(self, at):
        return 2.0 * at.lr


class InPlace(Drift):
    def correct(self, at, terms):
        return Direction(at.g.mul_(2.0))


DOUBLED = [
    alg.Algorithm(local=Twice()),
    TwiceDirection(),
    TwiceRate(),
    alg.Algorithm(drift=InPlace()),
]


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("algorithm", DOUBLED)
def test_twice_the_step(algorithm, generic):
    assert close(
        run(algorithm, generic, clip_norm=None), run(alg.FedAvg(), generic, clip_norm=None, lr=0.2)
    )


def test_a_gradient_changed_in_place_is_clipped_by_its_own_length():
    double = alg.Algorithm(drift=InPlace())
    again = alg.Algorithm(local=Twice())
    assert close(run(double, clip_norm=0.05), run(again, clip_norm=0.05))


class Warm(alg.FedAvg):
    def rate(self, at):
        return at.lr if at.step == 0 else 0.0


@pytest.mark.parametrize("generic", [False, True])
def test_a_rate_that_depends_on_the_step(generic):
    draw = fedfast.Schedule.draw
    drawn = draw(SIZES, rounds=2, participation=1.0, local_epochs=1, batch_size=4, seed=0)
    first = [drawn.round(t) for t in range(2)]
    steps = []
    for plan in first:
        index, count = plan.batches(np.arange(4))
        steps.append([[index[k, 0, : count[k, 0]].tolist()] for k in range(4)])
    cohorts = [plan.clients.tolist() for plan in first]
    short = fedfast.Schedule.explicit(cohorts, steps)
    assert close(run(Warm(), generic), run(alg.FedAvg(), generic, schedule=short))


class Growing(Drift):
    """A pull that grows with the step and the epoch, by a client's size."""

    def correct(self, at, terms):
        return self.pulled(at, terms, self.pull(at))

    def pull(self, at):
        return 0.1 * at.step, (1.0 + at.epoch(at.step)) / at.sizes

    def pulled(self, at, terms, numbers):
        pull, more = numbers
        return Direction([(terms, 1.0), (at.start, pull), (at.w, more)])


class Declared(Growing):
    def correct(self, at, terms):
        (size,) = at.by_chunk(lambda at: (at.sizes,))
        assert torch.equal(size, at.sizes)
        return self.pulled(at, terms, at.by_step(self.pull))


@pytest.mark.parametrize("generic", [False, True])
def test_numbers_of_a_step_that_are_declared_are_those_of_the_step(generic):
    found, expected = (
        run(alg.Algorithm(drift=drift()), generic, local_epochs=2) for drift in (Declared, Growing)
    )
    assert torch.equal(found, expected)
    assert not close(found, run(alg.FedAvg(), generic, local_epochs=2))


class Watching(alg.FedAvg):
    def after_step(self, at):
        seen.append((at.g.norm(dim=1).min().item(), len(at)))
        at.w.mul_(0.9)


seen: list[Any] = []


@pytest.mark.parametrize("generic", [False, True])
def test_after_step_of_an_algorithm_sees_gradient_and_model(generic):
    seen.clear()
    ours = run(Watching(), generic)
    assert sum(n for _, n in seen) == 2 * sum(-(-n // 4) for n in SIZES)
    assert min(length for length, _ in seen) > 0
    assert not close(ours, run(alg.FedAvg(), generic))


class First(ServerRule):
    def reweigh(self, models, start, cohort, layout, backend):
        seen.append((models[0][layout.real(models.device)], cohort.train_loss, cohort.start_loss))
        return (torch.arange(len(cohort)) == 0).double(), {}


@pytest.mark.parametrize("chunk", [2, 4])
def test_reweigh_needs_no_flag(chunk):
    seen.clear()
    ours = run(alg.Algorithm(server=First()), chunk=chunk)
    model, losses, starts = seen[-1]
    assert torch.allclose(ours.float(), model, atol=1e-6)
    assert losses.shape == (4,) and starts is None


@pytest.mark.parametrize(
    "base, name, near",
    [
        (Drift, "after_steps", "after_step"),
        (Drift, "corect", "correct"),
        (Drift, "begins", "begin"),
        (Drift, "afterStep", "after_step"),
        (Drift, "client_row", "client_rows"),
        (Drift, "uploads", "upload"),
        (alg.SAM, "ascent", "ascend"),
        (alg.Average, "reweight", "reweigh"),
        (alg.FedAvg, "weight", "weights"),
        (alg.FedAvg, "lr_totals", "lr_total"),
        (Drift, "ascend", "Optimizer"),
        (alg.FedAvg, "correct", "Drift"),
        (alg.SGD, "reweigh", "ServerRule"),
    ],
)
def test_a_hook_that_nothing_calls_is_an_error(base, name, near):
    with pytest.raises(TypeError, match=rf"Mine\.{name}.*{near}"):
        type("Mine", (base,), {name: lambda self, *args: None})


def test_helpers_are_allowed():
    names = "project", "compress", "correction", "clip", "quantise", "norm_of", "top_k", "_begins"
    type("Mine", (Drift,), {name: lambda self: None for name in names})


@pytest.mark.parametrize(
    "component, hook",
    [
        ({"correct": lambda self, at: None}, "correct"),
        ({"finish": lambda self: {}}, "finish"),
        ({"after_step": lambda self, at, lr: None}, "after_step"),
        ({"sums": [1]}, "sums"),
        ({"client_rows": {"u": "zeros"}}, "client_rows"),
        ({"server_rows": "hist"}, "server_rows"),
        ({"server_rows": lambda self: ("h",)}, "server_rows"),
    ],
)
def test_hooks_that_cannot_be_called_are_told_at_construction(component, hook):
    kind = type("Mine", (Drift,), component)
    with pytest.raises(TypeError, match=rf"Mine\.{hook}"):
        alg.Algorithm(drift=kind())


def unfit(row="h", weights=None):
    return lambda self, cohort: [Sum(row, cohort.weights if weights is None else weights)]


@pytest.mark.parametrize(
    "hooks, hook",
    [
        ({"correct": lambda self, at, terms: None}, "correct"),
        ({"correct": lambda self, at, terms: at.g}, "correct"),
        ({"finish": lambda self, at: 3}, "finish"),
        ({"finish": lambda self, at: {"n": 1.0}}, "finish"),
        ({"finish": lambda self, at: {"n": torch.zeros(99)}}, "finish"),
        ({"sums": lambda self, cohort: 3}, "sums"),
        ({"sums": unfit("hh"), "server_rows": ("h",)}, "sums"),
        ({"sums": unfit("h", torch.ones(9)), "server_rows": ("h",)}, "sums"),
        ({"client_rows": lambda self: {"u": "zero"}}, "client_rows"),
        ({"client_rows": lambda self: ["u"]}, "client_rows"),
    ],
)
def test_what_hooks_return_is_checked(hooks, hook):
    kind = type("Mine", (Drift,), hooks)
    with pytest.raises((TypeError, ValueError), match=rf"Mine\.{hook}"):
        run(alg.Algorithm(drift=kind()))


def test_a_forgotten_return_of_finish_is_nothing():
    kind = type("Mine", (Drift,), {"finish": lambda self, at: None})
    assert torch.equal(run(alg.Algorithm(drift=kind())), run(alg.FedAvg()))


def test_state_assigned_by_name_is_kept_whatever_the_chunk():
    class Count(Drift):
        def client_rows(self):
            return {"u": "zeros"}

        def after_step(self, at):
            at.own["u"] = at.own["u"] + 1.0

        def correct(self, at, terms):
            return Direction([(terms, 1.0), (at.own["u"], 1e-2)])

    one, four = (run(alg.Algorithm(drift=Count()), chunk=k) for k in (1, 4))
    assert torch.equal(one, four)
    assert not close(one, run(alg.FedAvg()))
