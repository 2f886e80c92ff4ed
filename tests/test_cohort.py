"""`Cohort` beside `Simulation`, to the bit, and beside loops in plain torch."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federation import arrays, batches_of, fedavg, federation, flat, mlp, sam_gradient, sgd
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fedfast
from fedfast.algorithms.lookup import names

SIZES = [9, 14, 5, 7, 2]
RATES, EPOCHS = [0.1, 0.3, 0.2, 0.1, 0.4], [1, 2, 1, 3, 2]
# One pools all samples, one needs a stochastic encoder.
ALGORITHMS = [name for name in names() if name not in ("centralized", "fedcr")]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def compare(model, data, algorithm, rounds=3, **options):
    """Rounds of a simulation, and the same clients trained by a cohort; yields each update."""
    options = dict(batch_size=4, lr=0.2, threads=1) | options
    sim = fedfast.Simulation(model, data, algorithm, rounds=rounds, participation=0.6, **options)
    cohort = fedfast.Cohort(model, data, algorithm, **options)
    for t, row in enumerate(sim):
        update = cohort.train(sim.schedule.round(t).clients)
        cohort.step(update)
        assert same(sim.state_dict(), cohort.state_dict())
        seen = float(update.losses @ update.samples.double()) / float(update.samples.sum())
        assert seen == pytest.approx(row.train_loss, rel=1e-12) or "drop_last" in options
    return sim, cohort


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_train_and_step_are_a_round_of_a_simulation(algorithm):
    compare(mlp(), federation(SIZES), algorithm, batch_size=None if algorithm == "fedsgd" else 4)


@pytest.mark.parametrize("algorithm", ["fedgh", "scaffold", "fedcm", "fedadam", "fedala"])
def test_so_are_cohorts_of_several_chunks(algorithm):
    compare(mlp(), federation(SIZES), algorithm, chunk=2)


def test_so_are_stochastic_encoders_momentum_decay_and_clips():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(8, 6))
    compare(fedfast.models.Stochastic(encoder, nn.Linear(3, 4)), federation(SIZES), "fedcr")
    local = fedfast.algorithms.FedAvg(local=fedfast.SGD(momentum=0.9))
    given = dict(weight_decay=0.01, clip_norm=0.1, aggregation="uniform", server_lr=0.7)
    compare(
        mlp(), federation([9, 14, 5, 7]), local, local_epochs=2, seed=3, drop_last=True, **given
    )


def test_personal_models_are_those_of_the_simulation():
    sim, cohort = compare(
        mlp(), federation(SIZES), fedfast.algorithms.by_name("fedavg", keep_models=True)
    )
    for i in range(len(SIZES)):
        own = cohort.client_state(i)
        there = cohort.layout.state_dict(own["v"], mlp()) if own else cohort.state_dict()
        assert not own or same(sim.client_state_dict(i), there)


def test_a_server_loop_of_ones_own_is_fedavg_in_plain_torch():
    data, model = federation(SIZES), mlp(dtype=torch.float64)
    given = dict(batch_size=4, lr=0.2, dtype=torch.float64, threads=1)
    cohort, state, plans = fedfast.Cohort(model, data, **given), model.state_dict(), []
    schedule = fedfast.Schedule.draw(
        SIZES, rounds=3, participation=0.6, local_epochs=1, batch_size=4, seed=0
    )
    for t in range(3):
        plans.append(batches_of(schedule.round(t)))
        update = cohort.train(list(plans[-1]), state)
        share = update.samples.double() / update.samples.sum()
        state = {name: torch.tensordot(share, w, 1) for name, w in update.views().items()}
    work = [[[b.long() for b in plan[k]] for k in plan] for plan in plans]
    script = fedavg(model, arrays(SIZES), [list(plan) for plan in plans], work)
    assert (flat(state) - flat(script.state_dict())).abs().max() < 1e-12


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsam"])
def test_rates_epochs_and_batches_of_each_client_are_those_of_plain_torch(algorithm):
    (xs, ys), model = arrays(SIZES), mlp(dtype=torch.float64)
    ids, rng = [3, 0, 1], np.random.default_rng(0)
    batches = [[rng.permutation(SIZES[i])[: 2 + s] for s in range(1 + i)] for i in ids]
    cohort = fedfast.Cohort(model, federation(SIZES), algorithm, dtype=torch.float64, threads=1)
    update = cohort.train(ids, batches=batches, lr=[0.1, 0.3, 0.2])
    for j, i in enumerate(ids):
        net, losses = deepcopy(model), []
        for rows in batches[j]:
            x, y = xs[i][rows].double(), ys[i][rows]
            losses.append(F.cross_entropy(net(x), y).item())
            if algorithm == "fedavg":
                sgd(net, x, y, lr=[0.1, 0.3, 0.2][j])
                continue
            for p, g in zip(net.parameters(), sam_gradient(net, x, y, 0.1, 1e-12), strict=True):
                p.data -= [0.1, 0.3, 0.2][j] * g
        found = flat(update.state_dict(j))
        assert (found - flat(net.state_dict())).abs().max() < 1e-9
        if algorithm == "fedavg":
            weights = [len(rows) for rows in batches[j]]
            assert float(update.losses[j]) == pytest.approx(np.average(losses, weights=weights))
            assert float(update.batch_losses[j]) == pytest.approx(np.mean(losses))
        assert int(update.steps[j]) == len(batches[j])


@pytest.mark.parametrize("options", [{}, dict(weight_decay=0.01), dict(clip_norm=0.1)])
@pytest.mark.parametrize("algorithm", ["fedavg", "fedsam", "fedprox", "scaffold", "fedgamma"])
def test_rates_and_epochs_of_ones_own_are_the_bits_of_training_alone(algorithm, options):
    def cohort():
        return fedfast.Cohort(
            mlp(), federation(SIZES), algorithm, batch_size=4, threads=1, **options
        )

    together = cohort().train(lr=RATES, epochs=EPOCHS, round=5)
    for i, (lr, epochs) in enumerate(zip(RATES, EPOCHS, strict=True)):
        alone = cohort().train([i], lr=lr, epochs=epochs, round=5)
        assert torch.equal(together.models[i], alone.models[0])
        assert int(together.steps[i]) == epochs * -(-SIZES[i] // 4)


def test_equal_rates_one_by_one_are_the_bits_of_a_single_one():
    cohort = fedfast.Cohort(mlp(), federation(SIZES), batch_size=4, threads=1)
    listed = cohort.train(lr=[0.3] * 5, epochs=[2] * 5, round=1).models.clone()
    given = torch.full((5,), 0.3, dtype=torch.float64)
    assert torch.equal(listed, cohort.train(lr=given, epochs=2, round=1).models)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_clients_model_depends_on_nobody_beside_it(data):
    sizes = data.draw(st.lists(st.integers(0, 11), min_size=2, max_size=6).filter(any))
    ids = data.draw(st.permutations(range(len(sizes))))[: data.draw(st.integers(1, len(sizes)))]
    width, chunk = (
        data.draw(st.sampled_from([1, 3, None])),
        data.draw(st.sampled_from([1, 2, None])),
    )
    (xs, ys), start = arrays(sizes), fedfast.FlatLayout.of(mlp()).flatten(mlp(seed=1))
    owned = fedfast.Cohort(
        mlp(), fedfast.FederatedData.from_arrays(xs, ys), batch_size=width, chunk=chunk, threads=1
    )
    handed = fedfast.Cohort(mlp(), batch_size=width, threads=1)
    handed.train(data=[(xs[int(np.argmax(sizes))], ys[int(np.argmax(sizes))])])
    update = owned.train(ids, start, round=3)
    other = handed.train(ids, start, data=[(xs[i], ys[i]) for i in ids], round=3)
    assert torch.equal(update.models, other.models)
    assert update.samples.tolist() == [sizes[i] for i in ids]
    assert torch.equal(update.losses.isnan(), update.samples == 0)
    empty = update.models[update.samples == 0]
    assert torch.equal(empty, start.expand_as(empty))
