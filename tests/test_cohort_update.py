"""`CohortUpdate`: views of the live rows, means, and the server's step on what they hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from federation import arrays, federation, mlp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fedfast

SIZES = [9, 14, 5, 7]


def cohort(algorithm="fedavg", sizes=SIZES, model=None, **options):
    given = dict(batch_size=4, lr=0.2, threads=1) | options
    return fedfast.Cohort(model or mlp(), federation(sizes), algorithm, **given)


def normed():
    """Running statistics, a counter, a frozen layer and a tied weight."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 4)
        )
    net[0].requires_grad_(False)
    return net


def test_models_are_the_live_rows_themselves_where_all_take_as_many_steps():
    made = cohort(sizes=[8, 8, 8])
    update = made.train([2, 0, 1])
    assert update.models.data_ptr() == made._parts.engine.trainer.live.w.data_ptr()
    assert update.views()["1.weight"].data_ptr() == update.models.data_ptr()
    again = made.train([2, 0, 1])
    assert again.models.data_ptr() == made._parts.engine.trainer.live.w.data_ptr()


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("sizes", [[8, 8, 8, 8], SIZES])
def test_what_is_written_to_a_view_is_seen_by_all_that_read_the_models(sizes, chunk):
    made = cohort(sizes=sizes, chunk=chunk)
    update = made.train([2, 0, 3, 1])
    with torch.no_grad():
        update.state_dict(0)["1.weight"].fill_(3.0)
        update.views()["1.bias"][0] = -2.0
        update.models[0, made.layout.slots[2].offset] = 7.0
    held = update.state_dict(0)
    assert (held["1.weight"] == 3).all() and (held["1.bias"] == -2).all()
    assert float(held["3.weight"].flatten()[0]) == 7.0
    update.models[1:] = update.models[0]
    row = update.models[0].clone()
    assert torch.allclose(update.mean(), row, atol=1e-6)
    made.step(update)
    assert torch.allclose(made.state_dict()["1.weight"], torch.tensor(3.0))


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_the_mean_is_that_of_float64(data):
    count = data.draw(st.integers(1, 4))
    ids = data.draw(st.permutations(range(4)))[:count]
    weights = data.draw(
        st.none() | st.lists(st.floats(0, 9, width=16), min_size=count, max_size=count).filter(any)
    )
    update = cohort(chunk=data.draw(st.sampled_from([None, 2]))).train(ids)
    if data.draw(st.booleans()):
        update.models.mul_(1.5)
    share = np.array([SIZES[i] for i in ids] if weights is None else weights)
    expected = np.average(update.models.double().numpy(), axis=0, weights=share)
    before = update.mean(weights)
    assert np.abs(before.double().numpy() - expected).max() < 1e-6
    assert torch.equal(before, update.mean(weights))


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("weights", [None, [28, 18, 10], [1.0, 2.0, 3.0]])
def test_a_mean_read_off_the_training_is_that_of_the_rows(weights, chunk):
    """Unless somebody has had the rows, which may have changed since."""
    made = cohort(chunk=chunk, model=normed(), batch_size=3)
    update, width = made.train([1, 0, 2]), made.layout.trained
    untouched, again = update.mean(weights), update.mean(weights)
    assert len(update.models)
    assert torch.equal(untouched, again) and torch.equal(untouched, update.mean(weights))
    update.models[0] += 1.0
    share = [14, 9, 5] if weights is None else weights
    moved = (update.mean(weights) - untouched)[:width]
    assert torch.allclose(moved, torch.tensor(share[0] / sum(share)), atol=1e-5)


def test_a_mean_by_samples_is_the_step_of_fedavg():
    made = cohort()
    update = made.train([3, 1, 0])
    mean = update.mean()
    made.step(update)
    state = made.layout.state_dict(mean, mlp())
    assert all(torch.equal(state[name], v) for name, v in made.state_dict().items())


def test_state_dicts_have_every_name_in_its_own_dtype_and_load_into_the_model():
    made = cohort(model=normed(), sizes=[8, 12])
    update = made.train(epochs=[1, 2])
    for j, steps in enumerate([2, 6]):
        state, net = update.state_dict(j), normed()
        assert list(state) == list(net.state_dict())
        assert all(state[n].dtype == v.dtype for n, v in net.state_dict().items())
        net.load_state_dict(state)
        assert int(net[1].num_batches_tracked) == steps
        assert torch.equal(net[0].weight, normed()[0].weight)
    mean = made.layout.state_dict(update.mean(), normed())
    assert int(mean["1.num_batches_tracked"]) == 4  # (2 * 8 + 6 * 12) / 20 = 4.4
    moved = update.updates()
    views = made.layout.views(moved)
    with torch.no_grad():
        expected = update.state_dict(1)["3.weight"] - normed()[3].weight
    assert torch.equal(views["3.weight"][1], expected)


def test_an_update_that_is_overwritten_says_so():
    made = cohort()
    first = made.train()
    kept = first.models.clone()
    second = made.train(round=0)
    for ask in (lambda: first.models, first.views, first.mean, lambda: first.state_dict(0)):
        with pytest.raises(RuntimeError, match="update: its models are overwritten"):
            ask()
    assert torch.equal(second.models, kept)
    assert first.losses.tolist() == second.losses.tolist()
    with pytest.raises(ValueError, match="update: expected that of the latest train"):
        made.step(first)
    made.step(second)
    with pytest.raises(ValueError, match="update: expected that of the latest train, once"):
        made.step(second)


def test_diverged_clients_are_reported_at_the_start_and_keep_their_state():
    xs, ys = arrays([8, 8, 8])
    made = fedfast.Cohort(mlp(), None, "scaffold", batch_size=4, lr=0.2, threads=1)
    made.step(made.train(data=list(zip(xs, ys, strict=True))))
    kept = [made.client_state(i)["c_i"] for i in range(3)]
    update = made.train(data=list(zip(xs, ys, strict=True)), lr=[0.1, 1e300, 0.1])
    assert update.diverged == (1,)
    assert torch.equal(update.models[1], update.start)
    assert [torch.equal(made.client_state(i)["c_i"], kept[i]) for i in range(3)] == [0, 1, 0]
    made.step(update)
    assert all(v.isfinite().all() for v in made.state_dict().values())


def test_a_step_that_ends_in_no_finite_model_changes_nothing():
    made = cohort("fedadam")
    before, moments = made.state_dict(), made.server_state()
    update = made.train()
    update.models.fill_(3e38)
    with pytest.raises(ArithmeticError, match="step: the new global model is not finite"):
        made.step(update)
    assert all(torch.equal(before[n], v) for n, v in made.state_dict().items())
    assert all(torch.equal(moments[n], v) for n, v in made.server_state().items())


def test_clients_without_samples_alone_take_no_step():
    made = cohort(sizes=[0, 5, 0])
    update = made.train([2, 0], state=mlp(seed=3).state_dict())
    assert update.steps.tolist() == [0, 0] and update.losses.isnan().all()
    assert torch.equal(update.state_dict(1)["1.weight"], mlp(seed=3)[1].weight)
    with pytest.raises(ValueError, match="with a client that trained"):
        made.step(update)


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ([1.0, 2.0], r"weights: expected one per client, \[4\]; got \[2\]"),
        ([0, 0, 0, 0], "weights: expected finite numbers >= 0, not all 0"),
        ([1, 1, 1, -1], "weights: expected finite numbers >= 0"),
        ([1, 1, 1, np.nan], "weights: expected finite numbers >= 0"),
        ("text", "weights: expected one per client; got 'text'"),
    ],
)
def test_weights_that_are_none(weights, match):
    with pytest.raises((TypeError, ValueError), match=match):
        cohort().train().mean(weights)


def test_positions_that_are_none():
    update = cohort().train()
    for j, error in ((4, IndexError), (-1, IndexError), ("a", TypeError), (True, TypeError)):
        with pytest.raises(error, match="j: expected a position in ids"):
            update.state_dict(j)
