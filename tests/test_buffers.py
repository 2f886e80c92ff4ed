"""Constants stay with the module, running statistics are averaged: held to a plain FedAvg script.

The script loads, trains and averages state dicts, buffers and counters included, as most federated
code does; a mean of counters is cast by `load_state_dict`.
"""

from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from federation import arrays, fedavg, federation, trained
from torch import nn

import fedfast

SIZES = [6, 4, 9]


class Norms(nn.Module):
    """BatchNorm a layer program can run; with `out` a module that its executor takes."""

    def __init__(self, generic=False):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)
        self.act = nn.Softplus() if generic else nn.Tanh()
        if generic:
            self.register_buffer("mask", torch.tensor([0.0, 0.0, 0.0, float("-inf")]), False)
            self.register_buffer("ones", torch.ones(4, dtype=torch.bool))

    def forward(self, x):
        x = self.b(self.act(self.norm(self.a(x))))
        return torch.where(self.ones, x, x + self.mask) if hasattr(self, "mask") else x


class Constants(nn.Module):
    """Constants of every kind, a frozen weight, and an own average in place or set anew."""

    def __init__(self, anew=False, persistent=True):
        super().__init__()
        self.a, self.b, self.anew = nn.Linear(8, 6), nn.Linear(6, 4), anew
        self.fixed = nn.Parameter(torch.randn(6), requires_grad=False)
        self.register_buffer("ema", torch.zeros(6), persistent)
        self.register_buffer("calls", torch.tensor(0))
        for name, value in {
            "minus": torch.tensor([0.0, float("-inf")]),
            "nan": torch.tensor(float("nan")),
            "table": torch.arange(6),
            "phase": torch.tensor([1j, 2.0]),
            "flags": torch.tensor([True, False]),
            "huge": torch.tensor([3e38, -3e38]),
        }.items():
            self.register_buffer(name, value, persistent)

    def forward(self, x):
        h = self.a(x).tanh() * self.fixed
        if self.training:
            seen = h.detach().mean(0)
            self.calls += 1
            if self.anew:
                self.ema = 0.9 * self.ema + 0.1 * seen
            else:
                self.ema.mul_(0.9).add_(0.1 * seen)
        return self.b(h - self.ema) + self.minus[0]


def seeded(make, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make(**kwargs)


SCHEDULE = (
    [[0, 1, 2], [2, 0], [1, 2]],
    [
        [[[0, 1, 2], [3, 4]], [[0, 2]], [[8, 7, 6], [5, 4, 3], [1, 2]]],
        [[[1, 2], [3, 4]], [[0, 5, 1]]],
        [[[1, 2, 3]], [[0, 4], [2, 7], [8, 1]]],
    ],
)


def simulate(module, data, backend="native", **kwargs):
    schedule = fedfast.Schedule.explicit(*SCHEDULE)
    how = dict(lr=0.2, schedule=schedule, dtype=torch.float64, device="cpu", backend=backend)
    return trained(module, data, "fedavg", **(how | kwargs))


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Norms, {}),
        (Norms, {"generic": True}),
        (Constants, {}),
        (Constants, {"anew": True}),
        (Constants, {"persistent": False}),
    ],
)
def test_a_run_is_the_script_that_averages_state_dicts(make, options, backend):
    module, data = seeded(make, **options), federation(SIZES)
    expected = fedavg(deepcopy(module).double(), arrays(SIZES), *SCHEDULE)
    sim = simulate(module, data, backend)
    assert all(row.status == "ok" for row in sim.history)
    for found in (sim.model(), module):
        if found is module:
            found.double().load_state_dict(sim.state_dict(), strict=True)
        names = dict((*expected.named_parameters(), *expected.named_buffers()))
        ours = dict((*found.named_parameters(), *found.named_buffers()))
        held = names if found is not module else expected.state_dict()
        for name in held:
            assert ours[name].dtype == names[name].dtype, name
            close = torch.allclose(ours[name], names[name], rtol=1e-9, atol=1e-12, equal_nan=True)
            assert close, name


def test_both_paths_count_batches_alike_and_programs_serve_batch_norm():
    data, own = federation(SIZES), lambda a, b: F.cross_entropy(a, b)
    fast = simulate(seeded(Norms), data)
    slow = simulate(seeded(Norms), data, loss=own)
    assert fast.generic_because == "" and slow.generic_because
    for name, value in fast.state_dict().items():
        assert torch.allclose(value, slow.state_dict()[name], atol=1e-12), name
    assert fast.state_dict()["norm.num_batches_tracked"] > 3


def test_constants_are_outside_the_rows():
    sim = simulate(seeded(Constants), federation(SIZES))
    held = [slot.name for slot in sim.layout.slots]
    assert held == ["a.weight", "a.bias", "b.weight", "b.bias", "ema", "calls"]
    assert {"fixed", "minus", "nan", "table", "phase", "flags", "huge"} <= set(sim.layout.aside)
    assert sim.traffic[0] == 8 * (sim.layout.parameters + 6)


def test_personal_models_hold_constants_and_their_own_counters():
    algorithm = fedfast.algorithms.FedAvg(keep_models=True)
    module, options = seeded(Norms, generic=True), dict(participation=1.0, batch_size=4)
    sim = trained(module, federation([6, 4, 10]), algorithm, rounds=1, **options)
    counts = []
    for i in range(len(SIZES)):
        module.load_state_dict(sim.client_state_dict(i), strict=True)
        counts.append(int(module.norm.num_batches_tracked))
    assert counts == [2, 1, 3]  # batches of 4 from 6, 4 and 10 samples


class Late(nn.Module):
    """Its buffer moves in the third step for the first time."""

    def __init__(self):
        super().__init__()
        self.a, self.seen = nn.Linear(8, 4), 0
        self.register_buffer("rare", torch.zeros(2))

    def forward(self, x):
        self.seen += self.training
        if self.training and self.seen == 3:
            self.rare += 1
        return self.a(x)


class Observer(nn.Module):
    def __init__(self, start):
        super().__init__()
        self.a = nn.Linear(8, 4)
        self.register_buffer("least", torch.tensor(start))

    def forward(self, x):
        self.least.copy_(torch.minimum(self.least, x.detach().min()))
        return self.a(x)


class Grows(Observer):
    def forward(self, x):
        self.least = x.detach().amin(0)
        return self.a(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Late, "rare changed in a training step, but not in the trial"),
        (partial(Observer, float("inf")), "buffer least changes in training.*inf or NaN"),
        (partial(Grows, 0.0), "buffer least changes its shape"),
    ],
)
def test_a_buffer_that_no_row_can_hold_is_named(make, message):
    loss = F.cross_entropy if make is Late else "cross_entropy"
    with pytest.raises(ValueError, match=message):
        simulate(make(), federation(SIZES), loss=loss)
    assert simulate(Observer(0.0), federation(SIZES)).history[-1].status == "ok"


def test_evaluation_changes_no_buffer():
    class Eager(Observer):
        def forward(self, x):
            self.least += 1
            return self.a(x)

    data = federation(SIZES)
    sim = simulate(Eager(0.0), data)
    before = sim.state_dict()["least"]
    sim.evaluate((data.client(0).x, data.client(0).y))
    assert torch.equal(before, sim.state_dict()["least"])
