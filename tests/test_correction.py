"""Corrections that ride on the folded step: the same runs as without any fusion, in float64."""

from dataclasses import replace

import pytest
import torch
from federation import federation, final, mlp
from hypothesis import given, settings
from hypothesis import strategies as st
from test_clip import LR, torchs
from test_programs import autograd, case
from test_sam_passes import MODULES, poisoned
from torch import nn

import fedfast
from fedfast import client_loop
from fedfast.algorithms import FedAvg, FedDyn, FedProx
from fedfast.algorithms.drift import Drift
from fedfast.algorithms.hooks import Direction, listed
from fedfast.executor import Capabilities, ClipBound, Fold, LocalStep, StepTensors
from fedfast.fusion_rules import fusions_for

SINGLE = ("fedprox", "feddyn", "scaffold", "fedcm", "fedgloss", "fedwmsam")
SHARPENED = ("mofedsam", "fedgamma", "fedspeed", "fedlesam-d", "fedsmoo")
NETWORK = Capabilities(folds=True, clips=True, sam=True, plans=True)


def convolutional():
    torch.manual_seed(0)
    first = nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*first, nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 4))


def run(algorithm, clip_norm=None, make=mlp, shape=(2, 2, 2), **options):
    """A float64 run whose clients come again."""
    options = dict(rounds=3, local_epochs=2, batch_size=4, lr=0.2, weight_decay=0.01) | options
    options |= dict(participation=0.6, clip_norm=clip_norm, dtype=torch.float64)
    return final(make(), federation([9, 4, 13, 1, 6], shape=shape), algorithm, **options)


def rows_of_a_run(algorithm):
    """What clients keep in the end, and the model."""
    data, options = federation([9, 4, 13, 1, 6], shape=(2, 2, 2)), dict(rounds=3, lr=0.2)
    sim = fedfast.Simulation(mlp(), data, algorithm, batch_size=4, participation=0.6, **options)
    sim.run(progress=False)
    clients = sim._engine.clients
    rows, _ = clients.export(clients.kept_ids())
    return [*rows.values(), *sim.state_dict().values()]


def unfused(monkeypatch):
    monkeypatch.setattr(
        client_loop, "fusions_for", lambda a, c, _: fusions_for(a, c, Capabilities())
    )


@pytest.mark.parametrize("clip_norm", [None, 3.0, 0.3])
@pytest.mark.parametrize("name", SINGLE + SHARPENED)
def test_a_run_is_the_unfused_run(name, clip_norm, monkeypatch):
    ours = run(name, clip_norm)
    unfused(monkeypatch)
    plain = run(name, clip_norm)
    assert (ours - plain).norm() <= 1e-13 * plain.norm()


@pytest.mark.parametrize("name", ["feddyn", "scaffold", "fedgamma", "fedspeed", "fedwmsam"])
def test_a_row_renewed_behind_the_last_step_is_that_of_finish(name, monkeypatch):
    """To the bit; the clients make unlike numbers of steps."""
    ours = rows_of_a_run(name)
    monkeypatch.setattr(client_loop, "renewal_of", lambda *_: None)
    plain = rows_of_a_run(name)
    assert len(ours) == len(plain) and ours[0].any()
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("name", ["feddyn", "mofedsam"])
def test_convolutions_and_norms_too(name, clip_norm, monkeypatch):
    options = dict(make=convolutional, shape=(2, 4, 4))
    ours = run(name, clip_norm, **options)
    unfused(monkeypatch)
    plain = run(name, clip_norm, **options)
    assert (ours - plain).norm() <= 1e-12 * plain.norm()


@settings(max_examples=15, deadline=None)
@given(
    lam=st.floats(0.0, 2.0),
    clip_norm=st.none() | st.floats(0.05, 5.0),
    whole=st.booleans(),
    dual=st.booleans(),
)
def test_any_pull_under_any_clip(lam, clip_norm, whole, dual):
    clip = "whole" if whole else "linear"
    algorithm = FedDyn(lam=lam, clip=clip) if dual else FedProx(mu=lam, clip=clip)
    ours = run(algorithm, clip_norm, rounds=2)
    with pytest.MonkeyPatch.context() as patch:
        unfused(patch)
        plain = run(algorithm, clip_norm, rounds=2)
    assert (ours - plain).norm() <= 1e-12 * plain.norm()


@pytest.mark.parametrize("name", ["feddyn", "fedgamma"])
@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_neither_chunks_nor_threads_leave_a_trace(name, clip_norm):
    ends = [run(name, clip_norm, chunk=k, threads=t) for k, t in ((3, 1), (1, 2), (2, 1))]
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("shared", [False, True], ids=["own rows", "one row"])
@pytest.mark.parametrize("largest", [None, 0.2, 2.5, 1e6])
@pytest.mark.parametrize("name", ["mlp", "cnn", "norms", "residual"])
def test_a_step_is_torchs_clip_of_the_sum_then_its_sgd(name, largest, shared):
    module, layout, executor, w, batch = case(name, torch.float64, modules=MODULES)
    generator = torch.Generator().manual_seed(5)
    addend = layout.bank(1 if shared else 3)
    for part in layout.views(addend, True).values():  # zeros between tensors, as in every row
        part.copy_(torch.randn(part.shape, generator=generator).double() * 0.1)
    addend = addend.expand(3, -1)
    (g, _, out), losses = poisoned(layout, w), torch.zeros(3).double()
    bound = None if largest is None else ClipBound(largest, g)
    fold = Fold(-LR, 1 - LR * 0.01, w, bound, addend)
    executor.gradients(LocalStep(fold=fold), StepTensors(w, w.clone(), out, losses), batch)
    for k in range(3):
        parts = layout.views(addend[k], True)
        gradients = {
            key: g + parts[key] for key, g in autograd(module, layout, w[k], batch, k)[0].items()
        }
        expected = torchs(layout.views(w[k], True), gradients, largest or torch.inf)
        for key, view in layout.views(out[k], True).items():
            assert (view - expected[key]).norm() <= 1e-11 * (1 + expected[key].norm()), key


class Restless(Drift):
    """Adds what changes from step to step."""

    def correct(self, at, terms):
        return Direction([*listed(terms), (at.start, 0.1 * at.step)])


class Louder(FedProx):
    """A hook of the user's over a drift that is constant."""

    def direction(self, at):
        return replace(super().direction(at), weight_decay=1.0)


def test_only_what_says_so_is_constant():
    assert fusions_for(FedProx(), None, NETWORK).folds
    assert fusions_for(FedDyn(), 10.0, NETWORK).rounds
    assert not fusions_for(FedDyn(clip="whole"), 10.0, NETWORK).folds
    assert not fusions_for(FedAvg(drift=Restless()), None, NETWORK).folds
    assert not fusions_for(Louder(), None, NETWORK).folds
    dual = FedDyn(local=fedfast.SGD(momentum=0.0))
    assert fusions_for(dual, None, NETWORK).folds
