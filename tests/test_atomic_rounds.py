"""A round is complete or has not been: whoever breaks it off, in whatever of its parts."""

from __future__ import annotations

import itertools
import time
from functools import lru_cache
from unittest.mock import Mock

import pytest
import torch
from fedfast.kernels import Plan
from interrupts import differences, end_alike, everything, simulation
from torch import nn

import fedfast
from fedfast import algorithms as alg
from fedfast.aggregation import RoundSums
from fedfast.clients import ClientState
from fedfast.model_inspection import Traits
from fedfast.module_executor import ModuleExecutor
from fedfast.programs.evaluator import ProgramEvaluator


class Out(Exception):
    """What somebody raises."""


@lru_cache
def undisturbed(kind):
    """`everything` before the first round and after each of a run that nobody breaks off."""
    sim = simulation(kind)
    return [everything(sim)] + [everything(sim) for _ in sim]


def failing(monkeypatch, where, name, at):
    """`where.name` raises at its `at`-th call, once."""
    whole, calls = getattr(where, name), itertools.count(1)

    def broken(*args, **kwargs):
        if next(calls) == at:
            raise Out
        return whole(*args, **kwargs)

    monkeypatch.setattr(where, name, broken)


PLACES = {
    "evaluation": (ProgramEvaluator, "begun"),
    "clients' evaluation": (ProgramEvaluator, "correct"),
    "sums": (RoundSums, "into"),
    "scatter": (ClientState, "scatter"),
    "begin": (ClientState, "begin"),
    "finish": (alg.Algorithm, "finish"),
    "settle": (alg.Algorithm, "settle"),
    "added": (alg.Algorithm, "added"),
}


@pytest.mark.parametrize("kind", ["scaffold", "feddyn", "fedfsa", "fedadam", "keep"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_round_broken_off_leaves_the_round_before(kind, place, at, monkeypatch):
    after = undisturbed(kind)
    failing(monkeypatch, *PLACES[place], at)
    sim = simulation(kind)  # which hooks are there is asked when it is made
    with pytest.raises(Out):
        sim.run(progress=False)
    assert not differences(everything(sim), after[sim.round])
    sim.run(progress=False)
    assert not differences(everything(sim), after[-1])


@pytest.mark.parametrize("error", [Out, KeyboardInterrupt, MemoryError])
def test_what_a_callback_raises_follows_the_round(error):
    rounds = []

    def callback(sim, row):
        rounds.append(row.round)
        if row.round == 2:
            raise error

    sim, whole = simulation("scaffold", callbacks=[callback]), simulation("scaffold")
    with pytest.raises(error):
        sim.run(progress=False)
    assert sim.round == len(sim.history) == 2
    assert end_alike(sim, whole) and rounds == [1, 2, 3, 4, 5]


def test_an_iteration_left_and_taken_up_again_is_the_same_run():
    sim, whole = simulation("feddyn"), simulation("feddyn")
    for row in sim:
        if row.round == 2:
            break
    next(iter(sim))
    one, other = iter(sim), iter(sim)
    assert [next(one).round, next(other).round] == [4, 5]
    assert end_alike(sim, whole)


def test_the_history_a_user_holds_grows_with_the_run():
    sim = simulation("fedavg")
    held = sim.history
    assert sim.run(progress=False) is held and len(held) == 5


def test_a_users_loss_that_raises_once_changes_nothing():
    calls = itertools.count()

    def loss(logits, y):
        if next(calls) == 60:
            raise Out
        return nn.functional.cross_entropy(logits, y)

    sim = simulation("scaffold", loss=loss)
    whole = simulation("scaffold", loss=lambda z, y: nn.functional.cross_entropy(z, y))
    with pytest.raises(Out):
        sim.run(progress=False)
    assert end_alike(sim, whole)


def test_out_of_memory_on_the_device_leaves_the_round_before(monkeypatch):
    sim, whole = simulation("scaffold", chunk=1), simulation("scaffold", chunk=1)
    next(iter(sim))
    before = everything(sim)
    with monkeypatch.context() as patch:
        patch.setattr(ClientState, "gather", Mock(side_effect=torch.OutOfMemoryError))
        with pytest.raises(torch.OutOfMemoryError):
            sim.run(progress=False)
    assert not differences(everything(sim), before)
    assert end_alike(sim, whole)


def test_a_rejected_round_leaves_the_clients_as_they_were_too():
    """The server's step overflows: neither the model nor the clients' variates have moved."""
    sim = simulation("scaffold", server_lr=3e38, lr=100.0, on_divergence="continue")
    before = everything(sim)
    row = next(iter(sim))
    assert row.status == "diverged: global model non-finite"
    assert set(differences(everything(sim), before)) == {"history"}


def test_the_recording_of_a_plan_that_was_broken_off_does_not_go_on():
    plan = Plan()
    plan.__enter__()  # and no `__exit__`: a signal came just before it
    sim = simulation("fedavg")
    assert end_alike(sim, simulation("fedavg"))
    assert sim.history[-1].update_norm > 0


def test_workers_of_a_call_that_was_broken_off_are_waited_for():
    model = nn.Linear(2, 2)
    layout = fedfast.FlatLayout.of(model)
    traits = Traits(2, False, 1.0, frozenset())
    executor = ModuleExecutor(model, layout, nn.functional.cross_entropy, 2, traits)
    pool, done = executor.pool, []

    def work(worker):
        time.sleep(0.01 + 0.02 * worker)
        if worker == 0:
            raise Out
        done.append(worker)

    for _ in range(5):
        with pytest.raises(Out):
            pool.each(work)
    assert done == [1] * 5 and pool.each(lambda worker: worker) == [0, 1]


@pytest.mark.parametrize("rounds", [1, 30])
def test_a_cohort_has_spare_places_and_no_more(rounds):
    """[C, width] beside the rows that are kept, however often rounds are broken off."""
    clients = ClientState({"c": "zeros"}, {"n": torch.zeros(2)}, 20, torch.zeros(64), 64)
    draw = torch.Generator().manual_seed(0)
    mirror = torch.zeros(20)
    for t in range(rounds):
        ids = torch.randperm(20, generator=draw)[:6]
        for keeps in (False, True):  # broken off, then complete
            after = clients.begin(ids, torch.zeros(64))
            bank = torch.empty(6, 64)
            after.gather(ids, {"c": bank})
            assert torch.equal(bank[:, 0], mirror[ids])
            rows = {"c": bank + t + 1}
            after.scatter(ids, rows, {"n": torch.full((6, 2), 1.0)})
            if keeps:
                clients = after
                mirror[ids] += t + 1
        for i in range(20):
            row = clients.row("c", i)
            assert (0.0 if row is None else float(row[0])) == mirror[i]
        used = clients.slot[clients.slot > 0]
        assert len(set(used.tolist())) == len(used) and clients.top <= len(used) + 6 + 1
