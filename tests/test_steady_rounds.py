"""Rounds that are prepared once give what `Engine.round` gives, to the bit, and what a script in
float64 does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fedfast import FederatedData, Simulation, round_loop, steady_rounds
from fedfast.algorithms import FedAvg
from fedfast.data import Samples
from fedfast.phases import Profile, recording

SAMPLES, OUTPUTS = 60, 3


def data(sizes):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(SAMPLES, 5, generator=generator)
    y = torch.randint(OUTPUTS, (SAMPLES,), generator=generator)
    parts = np.split(np.arange(SAMPLES), np.cumsum(sizes)[:-1])
    return FederatedData.from_index(Samples(x, y), parts)


def simulation(sizes=(10,) * 6, algorithm="fedavg", **options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, OUTPUTS))
    usual = dict(rounds=6, participation=0.5, local_epochs=2, batch_size=4, lr=0.1, verify=False)
    return Simulation(model, data(sizes), algorithm, **usual | options)


def figures(rows):
    """What rows say, but for times."""
    names = "round", "train_loss", "lr", "clients", "samples", "status", "scalars", "bytes_up"
    sums = "update_norm", "update_norm_sum"
    return [[getattr(row, name) for name in (*names, *sums)] for row in rows]


def repeated(sim):
    """How many rounds have been prepared."""
    return len(sim._components.steady._held)


def general(sim):
    """The same simulation, whose rounds are all the engine's."""
    sim._components.steady._drawn = None
    return sim


@settings(max_examples=12, deadline=None)
@given(
    algorithm=st.sampled_from(["fedavg", "fedsam", "fedadam", "fedavgm"]),
    sizes=st.sampled_from([(10,) * 6, (1, 20, 3, 16, 8, 12), (4, 4, 4, 16, 16, 16)]),
    options=st.fixed_dictionaries(
        {},
        optional=dict(
            clip_norm=st.just(0.3),
            lr_decay=st.just(0.9),
            weight_decay=st.just(0.01),
            sampling=st.just("bernoulli"),
            aggregation=st.just("uniform"),
            batch_size=st.sampled_from([None, 1, 7]),
            participation=st.sampled_from([0.2, 1.0]),
            server_lr=st.just(0.5),
        ),
    ),
)
def test_repeated_rounds_are_the_engines_to_the_bit(algorithm, sizes, options):
    sim, other = (simulation(sizes, algorithm, **options) for _ in range(2))
    assert figures(sim) == figures(general(other))
    assert repeated(sim) > 0
    for name, t in sim.state_dict().items():
        assert torch.equal(t, other.state_dict()[name])


def by_script(sim, sizes):
    """FedAvg by torch in float64, from the schedule's batches."""
    clients, w = data(sizes), {k: v.double() for k, v in simulation(sizes).state_dict().items()}
    for t in range(sim.rounds):
        turn = sim.schedule.round(t)
        own = clients.sizes[turn.clients] / clients.sizes[turn.clients].sum()
        total = {name: torch.zeros_like(v) for name, v in w.items()}
        for j, (client, share) in enumerate(zip(turn.clients, own, strict=True)):
            index, count = (part[0] for part in turn.batches([j]))
            model = trained(w, clients, int(client), index, count)
            for name, v in model.items():
                total[name] += share * v
        w = total
    return w


def trained(w, clients, client, index, count):
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, OUTPUTS)).double()
    model.load_state_dict(w)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    first = int(clients.offsets[client])
    for places, n in zip(index, count, strict=True):
        rows = clients.order[first + places[: int(n)]]
        sgd.zero_grad()
        F.cross_entropy(model(clients.x[rows].double()), clients.y[rows]).backward()
        sgd.step()
    return model.state_dict()


@pytest.mark.parametrize("sizes", [(10,) * 6, (1, 20, 3, 16, 8, 12)])
def test_repeated_rounds_are_fedavg(sizes):
    sim = simulation(sizes, dtype=torch.float64)
    sim.run(progress=False)
    assert repeated(sim) > 0
    for name, expected in by_script(sim, sizes).items():
        torch.testing.assert_close(sim.state_dict()[name], expected, rtol=1e-10, atol=1e-12)


class Counting(FedAvg):
    """An algorithm of the user's, which looks at every chunk."""

    seen: list[int] = []

    def begin(self, at):
        self.seen.append(len(at))


@pytest.mark.parametrize(
    "options",
    [
        dict(algorithm="scaffold"),
        dict(algorithm="fedgloss"),
        dict(algorithm=Counting()),
        dict(chunk=2),
        dict(loss=F.cross_entropy),
    ],
)
def test_what_does_more_is_the_engines(options):
    sim = simulation(**options)
    sim.run(progress=False)
    assert repeated(sim) == 0 and sim.round == 6


def test_hooks_of_the_users_are_called_every_round():
    Counting.seen.clear()
    simulation(algorithm=Counting()).run(progress=False)
    assert Counting.seen == [3] * 6


def test_what_is_not_finite_is_found_and_left_to_the_engine():
    given = dict(lr=1e38, on_divergence="continue")
    sim, other = simulation(**given), general(simulation(**given))
    rows = list(sim)
    assert repr(figures(rows)) == repr(figures(other))  # nan is no number's equal
    assert any(row.status.startswith("diverged") for row in rows)
    for name, t in sim.state_dict().items():
        assert torch.equal(t, other.state_dict()[name])


def test_a_round_that_is_broken_off_is_done_again(monkeypatch):
    sim, whole = simulation(), simulation()
    whole.run(progress=False)
    ended, left = steady_rounds.SteadyRounds._ended, [2]

    def broken(self, *args):
        found = ended(self, *args)  # all is written, nothing is committed
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(steady_rounds.SteadyRounds, "_ended", broken)
    with pytest.raises(KeyboardInterrupt):
        sim.run(progress=False)
    assert sim.round == 1
    sim.run(progress=False)
    assert figures(sim.history) == figures(whole.history)
    for name, t in sim.state_dict().items():
        assert torch.equal(t, whole.state_dict()[name])


def test_a_loaded_state_is_gone_on_from(tmp_path):
    sim, whole = simulation(), simulation()
    rows = iter(sim)
    for _ in range(3):
        next(rows)
    sim.save(tmp_path / "state")
    next(rows)
    sim.load(tmp_path / "state")
    rest, whole = list(sim), list(whole)
    assert figures(rest) == figures(whole[3:])


def test_samples_that_a_callback_moved_are_drawn_from_where_they_lie():
    def swapped(sim):
        for row in sim:
            if row.round == 3:
                order = sim._design.data.order
                order.copy_(order.flip(0))
        return sim.state_dict()

    here, there = swapped(simulation()), swapped(general(simulation()))
    assert all(torch.equal(t, there[name]) for name, t in here.items())


def test_a_profile_has_its_phases():
    sim = simulation()
    with recording(Profile()) as profile:
        for _ in range(3):
            round_loop.next_round(sim._components)
    assert repeated(sim) > 0
    seconds = profile.seconds()
    for name in ("schedule", "gather", "forward_backward", "aggregate"):
        assert seconds[name] > 0, name
