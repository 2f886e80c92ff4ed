"""Frozen parameters: all clients share one copy, and what is trained is what autograd trains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import scripts.run
import torch
from paired_runs import path, simulation
from scripts.run import SPANS, Run
from test_scripts import CASES, settings
from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread")
FIRST, LAST = {"0.weight", "0.bias"}, {"2.weight", "2.bias"}
PARTS = [FIRST, LAST, {"0.weight"}, {"2.weight"}, {"0.bias"}, {"0.bias", "2.weight"}]
# Its script takes the least sensitive tensor of all, which is a frozen one.
NAMES = [name for name in CASES if name != "fedfsa-reverse"]


def still(run: Run, frozen: set[str]) -> Run:
    """The run, no weight decay on what is frozen."""
    decay: Tensor = torch.full_like(run.w0, run.weight_decay)
    for name in frozen:
        decay[SPANS[name]] = 0
    return replace(run, weight_decay=decay)


@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_is_its_script_over_what_is_trained(name, monkeypatch):
    algorithm, script = CASES[name]
    for i, (setting, run) in enumerate(settings(name).items()):
        frozen = PARTS[(2 * NAMES.index(name) + i) % len(PARTS)]
        monkeypatch.setattr(scripts.run, "FROZEN", frozen)
        sim = simulation(run, algorithm, frozen)
        assert sim.generic_because == algorithm.local.own_loss
        assert (path(sim) - script(still(run, frozen))).abs().max() < 2e-12, (setting, frozen)


def federated(make, frozen, data, lr=0.3, **options) -> tuple[fedfast.Simulation, nn.Module]:
    """A run of two rounds, and the same in plain torch: FedAvg over what `frozen` leaves."""
    module = make().double()
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    rounds = dict(rounds=2, local_epochs=1, batch_size=3, lr=lr, dtype=torch.float64)
    sim = fedfast.Simulation(module, data, **(rounds | options))
    plans = [sim.schedule.round(t) for t in range(2)]
    arrays = zip(*(data.client(i) for i in range(data.num_clients)), strict=True)
    given = tuple(arrays), [plan.clients.tolist() for plan in plans]
    steps = [batches_of(plan) for plan in plans]
    work = [[s[k] for k in cohort] for s, cohort in zip(steps, given[1], strict=True)]
    return sim, fedavg(module, *given, work, partial(sgd, lr=lr))


@hypothesis.given(strategies.sets(strategies.sampled_from(PARAMETERS), max_size=7))
@hypothesis.settings(max_examples=20, deadline=None)
def test_whichever_parameters_are_frozen_the_rest_is_autograds(frozen):
    data = federation([4, 7], shape=(1, 6, 6))
    sim, expected = federated(ConvNet, frozen, data)
    assert sim.generic_because == ""
    start = sim.state_dict()
    list(sim)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(sim.state_dict()[name], value, rtol=0, atol=1e-12)
        if name in frozen:
            assert torch.equal(sim.state_dict()[name], start[name])
    own = dict(expected.named_parameters())
    trained = sum(own[name].numel() for name in PARAMETERS if name not in frozen)
    statistics = 2 * 3  # of three channels
    assert sim.traffic == (8 * (trained + statistics),) * 2
    assert sim.layout.parameters == trained
