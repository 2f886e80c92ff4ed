"""Draws made ahead change nothing: not on resume, after a load, with chunks, where samples move."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedfast import FederatedData, Schedule, Simulation, round_batches, round_loop, steady_rounds
from fedfast.ahead import Ahead
from fedfast.data import Samples
from fedfast.rounds import Drawn

SIZES = [9, 4, 12, 7, 1, 5, 8, 30]


def data():
    generator = torch.Generator().manual_seed(0)
    n = sum(SIZES)
    x, y = torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)
    ends = np.cumsum(SIZES)
    return FederatedData.from_index(Samples(x, y), np.split(np.arange(n), ends[:-1]))


def simulation(clients=None, **options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    options = dict(rounds=5, participation=0.5, local_epochs=2, batch_size=4, lr=0.1) | options
    return Simulation(model, clients or data(), options.pop("algorithm", "fedavg"), **options)


@pytest.fixture
def taken(monkeypatch):
    """Whether each chunk's batches had been drawn ahead."""
    found, take = [], Ahead.take
    for small in (round_batches, steady_rounds):
        monkeypatch.setattr(small, "WORTH", 0)
    monkeypatch.setattr(Ahead, "take", lambda *args: found.append(t := take(*args)) or t)
    return found


def alone(sim):
    """The same rounds, every one drawn when it begins."""
    while sim.round < sim.rounds:
        round_loop.next_round(sim._components)
    return sim.state_dict()


def same(a, b):
    return all(torch.equal(t, b[name]) for name, t in a.items())


@pytest.mark.parametrize(
    ("options", "chunks"),
    [
        ({}, 5),
        (dict(chunk=3), 10),  # of four clients
        (dict(sampling="bernoulli"), 5),
        (dict(algorithm="fedgloss"), 5),
    ],
)
def test_what_is_drawn_ahead_is_what_is_drawn_in_time(options, chunks, taken):
    sim = simulation(**options)
    sim.run(progress=False)
    assert len(taken) >= chunks and sum(found is None for found in taken) == 1  # the first one
    assert same(sim.state_dict(), alone(simulation(**options)))


def test_a_state_that_is_loaded_in_between_is_gone_on_from(tmp_path, taken):
    sim = simulation()
    for row in sim:
        if row.round == 2:
            sim.save(tmp_path / "two")
        if row.round == 4 and (tmp_path / "two").exists():
            sim.load(tmp_path / "two")
            (tmp_path / "two").unlink()
    assert sum(found is None for found in taken) == 2
    assert same(sim.state_dict(), alone(simulation()))


def test_samples_that_a_callback_deals_anew_are_trained_on(taken):
    def swap(clients):
        def after(sim, row):
            if row.round == 2:
                clients.order.copy_(clients.order.flip(0))

        return after

    first, second = data(), data()
    sim = simulation(first, callbacks=[swap(first)])
    sim.run(progress=False)
    other = simulation(second)
    while other.round < other.rounds:
        row = round_loop.next_round(other._components)
        swap(second)(other, row)
    assert same(sim.state_dict(), other.state_dict())
    assert not same(sim.state_dict(), alone(simulation()))


def test_an_error_belongs_to_the_round_whose_it_is(monkeypatch, taken):
    round = Schedule.round

    def failing(self, t, exchange=0):
        if t == 3:
            raise RuntimeError("no fourth round")
        return round(self, t, exchange)

    monkeypatch.setattr(Schedule, "round", failing)
    sim = simulation()
    with pytest.raises(RuntimeError, match="no fourth round"):
        sim.run(progress=False)
    assert sim.round == 3


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_the_thread_ends_with_the_run(taken):
    def threads():
        return len(os.listdir("/proc/self/task"))

    sim = simulation(threads=1)
    alone(simulation(threads=1))  # libraries have made theirs
    before, rounds = threads(), iter(sim)
    next(rounds)
    assert threads() == before + 1
    rounds.close()
    assert threads() == before
    sim.run(progress=False)
    assert threads() == before and sim._engine.batches.ahead is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_goes_on_without_the_thread(taken):
    sim = simulation(threads=1)
    rounds = iter(sim)
    next(rounds)
    child = os.fork()
    if child == 0:
        for _ in rounds:
            pass
        os._exit(0 if same(sim.state_dict(), alone(simulation(threads=1))) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_written_schedules_have_no_thread(taken):
    written = Schedule.explicit([[0, 1]] * 2, [[[[0, 1]], [[2]]]] * 2)
    torch.manual_seed(1)
    Simulation(nn.Sequential(nn.Linear(6, 3)), data(), schedule=written).run(progress=False)
    assert not taken


@pytest.mark.parametrize("options", [{}, dict(algorithm="scaffold", client_rows="disk")])
def test_every_round_is_drawn_once(options, monkeypatch, taken, tmp_path):
    asked, of_source = [], Drawn.round
    monkeypatch.setattr(Drawn, "round", lambda *args: asked.append(args[1:]) or of_source(*args))
    folder = dict(client_rows_folder=str(tmp_path)) if options else {}
    sim = simulation(**options, **folder)
    asked.clear()  # what was looked at when it was built
    sim.run(progress=False)
    assert asked == [(t, 0) for t in range(5)]
