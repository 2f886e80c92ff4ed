"""Schedules: cohorts, batches that no company changes, and explicit ones checked to the step."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfast.client_sampling import Schedule

SIZES = [7, 0, 12, 5, 1, 30, 0, 9]


def drawn(sizes=SIZES, **changes):
    options = dict(rounds=4, participation=0.5, local_epochs=2, batch_size=5, seed=3)
    return Schedule.draw(sizes, **{**options, **changes})


def steps_of(index, count, k):
    """Client k's batches as lists, padding removed."""
    return [index[k, s, :n].tolist() for s, n in enumerate(count[k].tolist()) if n]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 25), min_size=1, max_size=8).filter(any),
    epochs=st.integers(1, 3),
    batch=st.one_of(st.none(), st.integers(1, 30)),
)
def test_each_epoch_sees_every_sample_once_in_full_batches_but_the_last(sizes, epochs, batch):
    plan = drawn(sizes, participation=1.0, local_epochs=epochs, batch_size=batch)
    for t in (0, 3):
        turn = plan.round(t)
        index, count = turn.batches(np.arange(turn.clients.size))
        assert index.dtype == torch.int64 and count.dtype == torch.int32
        assert index.shape == (turn.clients.size, turn.steps.max(), plan.width)
        for k, client in enumerate(turn.clients):
            n, batches = sizes[client], steps_of(index, count, k)
            b = n if batch is None else batch
            per_epoch = -(-n // b)
            assert len(batches) == turn.steps[k] == epochs * per_epoch
            for e in range(epochs):
                own = batches[e * per_epoch : (e + 1) * per_epoch]
                assert [len(x) for x in own[:-1]] == [b] * (per_epoch - 1)
                assert sorted(sum(own, [])) == list(range(n))


def test_padding_is_zero():
    turn = drawn().round(0)
    index, count = turn.batches(np.arange(turn.clients.size))
    padding = torch.arange(index.shape[2]) >= count[..., None]
    assert padding.any() and (index[padding] == 0).all()


def test_batches_do_not_depend_on_the_chunk():
    turn = drawn(participation=1.0).round(2)
    index, count = turn.batches(np.arange(6))
    for chunk in ([0], [5, 2], [3, 1, 4], [5, 4, 3, 2, 1, 0]):
        some, counts = turn.batches(chunk)
        steps = some.shape[1]
        assert steps == turn.steps[chunk].max() and some.shape[2] == index.shape[2]
        assert torch.equal(some, index[chunk, :steps])
        assert torch.equal(counts, count[chunk, :steps])


def test_a_clients_batches_do_not_depend_on_the_cohort():
    everyone, few = drawn(participation=1.0), drawn(participation=0.3)
    for t in range(4):
        all_turn, few_turn = everyone.round(t), few.round(t)
        for k, client in enumerate(few_turn.clients):
            position = int(np.flatnonzero(all_turn.clients == client)[0])
            alone, same = few_turn.batches([k]), all_turn.batches([position])
            assert torch.equal(alone[0], same[0]) and torch.equal(alone[1], same[1])


def test_rounds_may_be_asked_in_any_order_and_the_seed_decides():
    one, two, other = drawn(), drawn(), drawn(seed=4)
    late = one.round(3)
    assert one.rounds == 4
    for t in range(4):
        np.testing.assert_array_equal(one.round(t).clients, two.round(t).clients)
    assert torch.equal(late.batches([0])[0], two.round(3).batches([0])[0])
    assert any((one.round(t).clients != other.round(t).clients).any() for t in range(4))


def test_every_round_draws_anew():
    plan = drawn(np.full(40, 30), participation=1.0)
    first, second = plan.round(0), plan.round(1)
    assert first.clients.tolist() != second.clients.tolist()
    place = int(np.flatnonzero(second.clients == first.clients[0])[0])
    assert not torch.equal(first.batches([0])[0], second.batches([place])[0])
    # Over the epochs of one round, too.
    index = first.batches([0])[0][0]
    assert not torch.equal(index[:6], index[6:])


@pytest.mark.parametrize(
    ("participation", "cohort"), [(1.0, 6), (0.5, 3), (0.34, 2), (0.01, 1), (0.75, 4)]
)
def test_cohorts_are_exact_and_skip_empty_clients(participation, cohort):
    plan = drawn(participation=participation, rounds=50)
    for t in range(50):
        clients = plan.round(t).clients
        assert clients.dtype == np.int64 and len(set(clients.tolist())) == cohort
        assert not {1, 6} & set(clients.tolist())


def test_millions_of_clients():
    plan = drawn(np.full(3_000_000, 20), participation=1e-5)
    turn = plan.round(1)
    assert turn.clients.size == 30 and plan.width == 5
    assert turn.batches(np.arange(30))[0].shape == (30, 8, 5)


EXPLICIT = dict(cohorts=[[3, 1], [0]], batches=[[[[0, 1, 2], [4]], [[2], [0, 1], [1]]], [[[5, 5]]]])


def test_explicit_schedule_says_what_was_written():
    plan = Schedule.explicit(**EXPLICIT)
    assert (plan.rounds, plan.width) == (2, 3)
    turn = plan.round(0)
    assert turn.clients.tolist() == [3, 1] and turn.steps.tolist() == [2, 3]
    index, count = turn.batches([0, 1])
    assert [steps_of(index, count, k) for k in (0, 1)] == EXPLICIT["batches"][0]
    alone, own = turn.batches([0])
    assert torch.equal(alone, index[:1, :2]) and torch.equal(own, count[:1, :2])
    # A round of narrow batches is as wide as the schedule, so that shapes never change.
    assert plan.round(1).batches([0])[0].tolist() == [[[5, 5, 0]]]
    plan.check([6, 3, 0, 5])


def test_a_drawn_schedule_written_down_is_the_same_schedule():
    plan = drawn()
    cohorts, batches = [], []
    for t in range(plan.rounds):
        turn = plan.round(t)
        index, count = turn.batches(np.arange(turn.clients.size))
        cohorts.append(turn.clients.tolist())
        batches.append([steps_of(index, count, k) for k in range(turn.clients.size)])
    written = Schedule.explicit(cohorts, batches)
    written.check(SIZES)
    for t in range(plan.rounds):
        np.testing.assert_array_equal(plan.round(t).steps, written.round(t).steps)
        ours, theirs = (p.round(t).batches([2, 0]) for p in (plan, written))
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(cohorts=[[3, 1]]), ValueError, "batches: expected one per cohort.* got 2 for 1"),
        (dict(cohorts=[[3, 3], [0]]), ValueError, "cohorts.0.: client 3 .* more than once"),
        (dict(cohorts=[[3, -1], [0]]), ValueError, "cohorts.0.: expected values >= 0; got -1"),
        (dict(cohorts=[[3], [0]]), ValueError, "batches.0.: expected one entry per client, 1"),
        (dict(cohorts=[[0.5, 1], [0]]), TypeError, "cohorts.0.: expected integers"),
        (
            dict(batches=[[[[0]], []], [[[5]]]]),
            ValueError,
            r"batches\[0\]\[1\]: round 0, client 1 has no local step",
        ),
        (
            dict(batches=[[[[0], []], [[1]]], [[[5]]]]),
            ValueError,
            "round 0, client 3, step 1.: expected a non-empty list",
        ),
        (
            dict(batches=[[[[0]], [[1]]], [[[5], [-2]]]]),
            ValueError,
            "round 1, client 0, step 1.: expected values >= 0; got -2",
        ),
    ],
)
def test_explicit_errors_name_the_place(changes, error, message):
    with pytest.raises(error, match=message):
        Schedule.explicit(**{**EXPLICIT, **changes})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([6, 3, 0], "round 0 names client 3; the data has 3"),
        ([6, 3, 0, 4], "round 0, client 3, step 1: index 4; the client has 4 samples"),
        ([5, 3, 0, 5], "round 1, client 0, step 0: index 5; the client has 5 samples"),
    ],
)
def test_check_names_round_client_and_step(sizes, message):
    with pytest.raises(ValueError, match=message):
        Schedule.explicit(**EXPLICIT).check(sizes)


def test_check_of_a_drawn_schedule():
    drawn().check(np.array(SIZES))
    with pytest.raises(ValueError, match="client 5 had 30 samples when drawn; got 31"):
        drawn().check([7, 0, 12, 5, 1, 31, 0, 9])
    with pytest.raises(ValueError, match="drawn for 8 clients; got 2"):
        drawn().check([7, 0])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(sizes=[0, 0]), ValueError, "sizes: expected a client with samples"),
        (dict(sizes=[3, -1]), ValueError, "sizes: expected values >= 0; got -1"),
        (dict(participation=0.0), ValueError, "participation: .* got 0.0"),
        (dict(participation=1.5), ValueError, "participation: .* got 1.5"),
        (dict(participation=float("nan")), ValueError, "participation: .* got nan"),
        (dict(rounds=0), ValueError, "rounds: expected at least 1; got 0"),
        (dict(local_epochs=1.5), TypeError, "local_epochs: expected an integer; got 1.5"),
        (dict(batch_size=0), ValueError, "batch_size: expected at least 1; got 0"),
        (dict(seed=-1), ValueError, "seed: expected 0 <= seed"),
    ],
)
def test_draw_errors_name_the_argument(changes, error, message):
    with pytest.raises(error, match=message):
        drawn(**changes)


def test_rounds_and_positions_out_of_range():
    with pytest.raises(ValueError, match="t: expected 0 <= t < 4; got 4"):
        drawn().round(4)
    with pytest.raises(ValueError, match="positions: expected 0 <= p < 3; got 0..3"):
        drawn().round(0).batches([0, 3])
    with pytest.raises(ValueError, match="positions: expected integers"):
        drawn().round(0).batches([])


def test_largest_cohort_is_what_buffers_must_hold():
    drawn = Schedule.draw(
        [3] * 20, rounds=2, participation=0.3, local_epochs=1, batch_size=2, seed=0
    )
    assert drawn.largest_cohort == 6 == drawn.round(1).clients.size
    explicit = Schedule.explicit([[0], [1, 2, 0]], [[[[0]]], [[[0]], [[1]], [[2]]]])
    assert explicit.largest_cohort == 3


def test_bernoulli_cohorts_have_independent_members():
    clients, rounds, p = 400, 200, 0.1
    plan = drawn([1] * clients, rounds=rounds, participation=p, sampling="bernoulli")
    taken = np.zeros((rounds, clients), dtype=bool)
    for t in range(rounds):
        ids = plan.round(t).clients
        assert (np.diff(ids) > 0).all() and ids.size <= plan.largest_cohort
        taken[t, ids] = True
    sizes, deviation = taken.sum(1), (clients * p * (1 - p)) ** 0.5
    assert abs(sizes.mean() - clients * p) < 4 * deviation / rounds**0.5
    # A variance estimated from 200 rounds has a relative standard error of sqrt(2 / 199) = 0.1.
    assert sizes.var(ddof=1) == pytest.approx(deviation**2, rel=0.4)
    each = taken.mean(0)  # every client has the same chance
    assert abs(each - p).max() < 5 * (p * (1 - p) / rounds) ** 0.5


def test_a_bernoulli_cohort_is_never_empty():
    plan = drawn([1] * 5, rounds=300, participation=0.01, sampling="bernoulli")
    sizes = [plan.round(t).clients.size for t in range(300)]
    assert min(sizes) == 1
    firsts = np.bincount([plan.round(t).clients[0] for t in range(300)], minlength=5)
    assert firsts.min() > 30  # the one is anybody: 60 each on average, standard deviation 7


def test_an_unknown_sampling_is_refused():
    with pytest.raises(ValueError, match="sampling: unknown name"):
        drawn(sampling="poisson")
