"""FedALA against a plain autograd script, and its identity with FedAvg."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federation import add, arrays, federation, flat, gradient, mlp
from hypothesis import given, settings
from hypothesis import strategies as st

import fedfast
from fedfast.algorithms import FedALA, FedAvg
from fedfast.algorithms.adaptive_mixing import Slices, deviation

SIZES, WIDTH, LR = [9, 4, 6], 4, 0.3
COHORTS = [[0, 1, 2], [0, 1], [1, 2], [2, 0], [0, 1, 2]]
STEPS = [[0, 1, 2, 3], [3, 1]]


def simulate(algorithm, **kwargs):
    """Weights after every round [T, P] and the personal models [N, P] at the end."""
    schedule = fedfast.Schedule.explicit(COHORTS, [[STEPS] * len(c) for c in COHORTS])
    model, data = mlp(dtype=torch.float64), federation(SIZES)
    sim = fedfast.Simulation(
        model, data, algorithm, schedule=schedule, lr=LR, dtype=torch.float64, **kwargs
    )
    ours = torch.stack([flat(sim.state_dict()) for _ in sim])
    return ours, sim


def adapt(local, common, weights, batches, eta, p, threshold):
    """ALA of one client, slices taken whole: the paper's equations on lists of tensors.

    weights  None before the first active call
    Returns (the mixed tensors, the weights).
    """
    if torch.equal(local[0], common[0]):
        return common, weights
    first, gap = weights is None, [g - v for g, v in zip(common[-p:], local[-p:], strict=True)]
    weights = [torch.ones_like(d) for d in gap] if first else weights
    losses = []
    while True:
        for x, y in batches:
            mixed = [v + d * a for v, d, a in zip(local[-p:], gap, weights, strict=True)]
            model = mlp(dtype=torch.float64)
            with torch.no_grad():
                for to, t in zip(model.parameters(), [*common[:-p], *mixed], strict=True):
                    to.copy_(t)
            loss = F.cross_entropy(model(x), y)
            g = torch.autograd.grad(loss, list(model.parameters())[-p:])
            weights = [
                (a - eta * h * d).clamp(0, 1) for a, h, d in zip(weights, g, gap, strict=True)
            ]
        losses.append(float(loss.detach()))
        if not first or (len(losses) > 10 and np.std(losses[-10:]) < threshold):
            break
    mixed = [v + d * a for v, d, a in zip(local[-p:], gap, weights, strict=True)]
    return [*common[:-p], *mixed], weights


@cache
def script(eta, p, threshold):
    """(weights after every round, personal models, how far A moved from 1)."""
    xs, ys = arrays(SIZES)
    xs = [x.double() for x in xs]
    common = [t.detach() for t in mlp(dtype=torch.float64).parameters()]
    own, weights, rounds = [common] * 3, [None] * 3, []
    for cohort in COHORTS:
        for i in cohort:
            cuts = range(0, SIZES[i], WIDTH)
            batches = [(xs[i][b : b + WIDTH], ys[i][b : b + WIDTH]) for b in cuts]
            start, weights[i] = adapt(own[i], common, weights[i], batches, eta, p, threshold)
            model = mlp(dtype=torch.float64)
            with torch.no_grad():
                for to, t in zip(model.parameters(), start, strict=True):
                    to.copy_(t)
            for rows in STEPS:
                add(model, gradient(model, xs[i][rows], ys[i][rows]), -LR)
            own[i] = [t.detach().clone() for t in model.parameters()]
        total = sum(SIZES[i] for i in cohort)
        common = [sum(own[i][j] * (SIZES[i] / total) for i in cohort) for j in range(len(common))]
        rounds.append(torch.cat([t.flatten() for t in common]))
    moved = max(float((1 - a).abs().max()) for some in weights for a in some or [])
    return torch.stack(rounds), [torch.cat([t.flatten() for t in o]) for o in own], moved


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(("p", "eta", "threshold"), [(2, 1.0, 0.1), (3, 20.0, 1e-3)])
def test_the_papers_equations_round_by_round(p, eta, threshold, backend):
    theirs, personal, moved = script(eta, p, threshold)
    algorithm = FedALA(eta=eta, s=100, p=p, threshold=threshold)
    for chunk in (None, 1):
        ours, sim = simulate(algorithm, backend=backend, chunk=chunk)
        assert (ours - theirs).abs().max() < 1e-12
        for i in range(3):
            assert (flat(sim.client_state_dict(i)) - personal[i]).abs().max() < 1e-12
    assert moved > 0.01  # A was really learned


def test_with_weights_of_one_it_is_fedavg_on_the_received_model():
    ours, _ = simulate(FedALA(eta=0.0))
    assert (ours - simulate(FedAvg())[0]).abs().max() < 1e-14


def test_state_waits_for_clients_that_are_not_sampled():
    _, sim = simulate(FedALA(s=100))
    state = sim._engine.clients
    assert state.values["begun"].tolist() == [True, True, True]
    assert state.values["A"].shape[0] == 3
    cohorts = [[0, 1], [0], [1], [1]]  # client 0 learns its weights in round 1 and is away after
    schedule = fedfast.Schedule.explicit(cohorts, [[STEPS] * len(c) for c in cohorts])
    sim = fedfast.Simulation(mlp(), federation(SIZES), FedALA(s=100), schedule=schedule, lr=LR)
    seen = [sim._engine.clients.values["A"].clone() for _ in sim]
    assert torch.equal(seen[0], torch.ones_like(seen[0]))  # round 0: nothing differs yet
    assert not torch.equal(seen[1][0], seen[0][0]) and torch.equal(seen[1][1], seen[0][1])
    assert torch.equal(seen[3][0], seen[1][0]) and not torch.equal(seen[2][1], seen[1][1])


class Asked:
    """Stands in for the engine: what a slice depends on."""

    class probe:  # noqa: N801
        width = 7

    def __init__(self, sizes, ids, round, seed=3):
        self.on_host, self.ids = self, np.array(ids)
        self.sizes = torch.tensor(sizes, dtype=torch.float64)
        self.round, self.seed = round, seed


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5),
    s=st.floats(0.5, 100),
    round=st.integers(0, 1000),
)
def test_a_slice_is_contiguous_and_depends_on_its_client_alone(sizes, s, round):
    ids = list(range(10, 10 + len(sizes)))
    found = Slices.drawn(Asked(sizes, ids, round), s)
    index, count = found.index, found.count
    for k, n in enumerate(sizes):
        rows = np.concatenate([index[k, t, :c] for t, c in enumerate(count[k])])
        assert len(rows) == max(1, int(n * s / 100))
        assert (np.diff(rows) == 1).all() and rows[0] >= 0 and rows[-1] < n
        alone = Slices.drawn(Asked([n], [ids[k]], round), s).index
        assert alone[0, 0, 0] == rows[0]


def test_slices_begin_everywhere():
    first = {int(Slices.drawn(Asked([4], [0], t), 50).index[0, 0, 0]) for t in range(60)}
    assert first == {0, 1, 2}


def test_the_deviation_of_ten_losses_is_numpys_to_the_bit():
    generator = np.random.default_rng(0)
    losses = generator.lognormal(sigma=3.0, size=(10, 1000))
    losses[:, ::7] = losses[0, ::7] + 1e-9 * generator.standard_normal((10, 143))  # cancellation
    expected = [np.std(losses[:, k].tolist()) for k in range(1000)]
    assert deviation(torch.from_numpy(losses)).tolist() == expected
