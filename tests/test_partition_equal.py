"""Partitions with amounts fixed per client: hand-made cases, the priors' own moments, covers."""

from math import exp, lgamma

import numpy as np
import pytest
import torch
from fedfast.kernels import dealing
from hypothesis import given, settings
from hypothesis import strategies as st
from test_partition import LABELS, OWNED, OWNER, numbered, owned

from fedfast.data import (
    Data,
    FederatedData,
    Samples,
    describe,
    dirichlet_equal,
    hsu,
    iid,
    local_split,
    natural,
)
from fedfast.data._fixed_sizes import _drawn_in_python, _stacks, client_sizes, draw_by_prior
from fedfast.data._priors import DrawnPriors


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def rows_by_prior(rng, labels, prior, sizes, *args, **kwargs):
    """`draw_by_prior`'s rows, an array for each client."""
    order, lengths = draw_by_prior(rng, labels, prior, sizes, *args, **kwargs)
    assert lengths.tolist() == sizes.tolist() and order.shape == (sizes.sum(),)
    return np.split(order, np.cumsum(lengths)[:-1])


def drawn(labels, prior, sizes, one_by_one):
    rows = rows_by_prior(
        generator(), np.array(labels), np.array(prior), np.array(sizes), one_by_one
    )
    assert len(set(np.concatenate(rows).tolist())) == sum(sizes)
    return [np.array(labels)[own].tolist() for own in rows]


def test_an_exhausted_class_leaves_the_priors():
    """Client 0 wants class 0 alone, then 1; client 1 wants 0 or 2: what it gets is forced."""
    labels = [0, 0, 1, 1, 1, 2]
    found = drawn(labels, [[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]], [2, 1], one_by_one=False)
    assert found == [[0, 0], [2]]
    # Nothing of its prior is left to client 0 after two samples: it draws by what there is.
    found = drawn(labels, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [3, 3], one_by_one=False)
    assert found[0][:2] == [0, 0] and sorted(found[0] + found[1]) == labels


def test_a_refilled_class_is_used_again():
    labels, prior = np.array([0, 0, 1]), np.array([[1.0, 0.0], [0.0, 1.0]])
    rows = rows_by_prior(generator(), labels, prior, np.array([5, 4]), False, refill=True)
    assert sorted(rows[0].tolist()) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])
    assert rows[1].tolist() == [2, 2, 2, 2]  # although class 0 is left, its prior is kept to


def test_a_starved_class_comes_after_all_others():
    labels, prior = np.array([0] * 4 + [1, 1, 2]), np.array([[0.9, 0.1, 0.0], [0.5, 0.3, 0.2]])
    rows = rows_by_prior(generator(), labels, prior, np.array([5, 2]), False, starve=True)
    assert labels[rows[0]].tolist() == [1, 1, 0, 0, 0]  # nine tenths of its prior, and yet
    assert labels[rows[1]].tolist() == [2, 0]


def test_starving_is_the_published_fault():
    """Seen in the authors' sampler: the first of class 0 is number 1,800 of 2,000; shares of class
    0 have little to do with priors (0.32 in one draw), those of others correlate by about 0.9."""
    labels, found = np.arange(2000) % 10, []
    prior, sizes = np.ones((1, 10)), np.array([2000])
    (rows,) = rows_by_prior(generator(), labels, prior, sizes, True, starve=True)
    assert np.argmax(labels[rows] == 0) == 1800
    for seed in range(8):
        prior = generator(seed).dirichlet(np.full(10, 0.5), size=20)
        drawn = rows_by_prior(generator(seed), labels, prior, np.full(20, 100), True, starve=True)
        shares = np.array([np.bincount(labels[rows], minlength=10) for rows in drawn])
        found.append([np.corrcoef(prior[:, c], shares[:, c])[0, 1] for c in range(10)])
    first, *others = np.mean(found, axis=0)
    assert abs(first) < 0.4 and np.mean(others) == pytest.approx(0.9, abs=0.05)


def test_client_after_client_or_one_by_one():
    labels, prior = [0] * 10 + [1] * 10, [[1.0, 0.0]] * 2
    assert drawn(labels, prior, [10, 10], one_by_one=False) == [[0] * 10, [1] * 10]
    found = drawn(labels, prior, [10, 10], one_by_one=True)
    assert 2 <= found[0].count(0) <= 8  # they take turns: 10 of 0 with chance 1e-3 at most
    assert found[0] == sorted(found[0]) and found[1] == sorted(found[1])


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 2**32), alpha=st.floats(1e-3, 100), data=st.data())
def test_equal_amounts_and_no_sample_twice(labels, seed, alpha, data):
    samples, clients = numbered(labels), data.draw(st.integers(1, len(labels)))
    for split in (
        dirichlet_equal(samples, clients, alpha, seed),
        hsu(samples, clients, alpha, seed),
    ):
        rows = sum(owned(split), [])
        assert len(set(rows)) == len(rows)
        assert split.sizes.tolist() == [len(labels) // clients] * clients
    whole = dirichlet_equal(samples, clients, alpha, seed, sigma=0.5)
    assert sorted(sum(owned(whole), [])) == list(range(len(labels)))


def test_every_class_follows_its_prior():
    """Realised shares against the priors drawn first: class 0 as well as any other."""
    clients, classes, alpha = 100, 10, 0.5
    samples = numbered(np.arange(20_000) % classes)
    prior = generator(3).dirichlet(np.full(classes, alpha), size=clients)
    found = dirichlet_equal(samples, clients, alpha, seed=3).counts() / 200
    for c in range(classes):
        assert np.corrcoef(prior[:, c], found[:, c])[0, 1] > 0.85
    np.testing.assert_allclose(found.mean(axis=0), 1 / classes, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 5.0])
def test_hsu_clients_hold_as_many_classes_as_the_formula_says(alpha):
    """Distinct classes among m draws from Dirichlet(alpha p), before any class can run out."""
    classes, m, clients = 10, 50, 400
    first = [
        (hsu(numbered(np.arange(20_000) % classes), clients, alpha, s).counts()[:40] > 0).sum(1)
        for s in range(4)
    ]
    a, rest = alpha / classes, alpha - alpha / classes
    absent = exp(lgamma(rest + m) + lgamma(alpha) - lgamma(rest) - lgamma(alpha + m))
    found = np.concatenate(first)
    assert a > 0 and abs(found.mean() - classes * (1 - absent)) < 4 * found.std() / 160**0.5


def test_log_normal_sizes():
    sizes = client_sizes(generator(), 1_000_000, 2000, 0.3)
    assert sizes.sum() == 1_000_000 and sizes.min() >= 1
    logs = np.log(sizes)
    assert abs(logs.std() - 0.3) < 0.3 * 5 / (2 * 2000) ** 0.5
    split = iid(numbered(np.arange(1000) % 4), 20, seed=5, sigma=1.0)
    assert split.sizes.sum() == 1000 and split.sizes.max() > 3 * split.sizes.min()
    assert sorted(sum(owned(split), [])) == list(range(1000))
    assert client_sizes(generator(), 5, 5, 3.0).tolist() == [1] * 5


def test_natural_clients_are_the_owners():
    assert owned(natural(OWNED)) == [[1, 5], [0, 2, 3], [4]]
    assert owned(natural(OWNED, min_size=2)) == [[1, 5], [0, 2, 3]]
    data = natural(OWNED, test=Samples(OWNED.x[:2] + 10, OWNED.y[:2], owner=torch.tensor([9, 7])))
    assert [part.x[:, 0].tolist() for part in data.test] == [[], [11.0], [10.0]]
    found = {tuple(map(tuple, owned(natural(OWNED, clients=2, seed=s)))) for s in range(20)}
    assert len(found) == 3


def test_a_local_split_covers_each_client():
    data = FederatedData.from_index(OWNED, [[0, 1, 2, 3, 4, 5], [3], [], [2, 0, 4, 4]])
    split = local_split(data, 0.3, seed=2)
    assert split.sizes.tolist() == [4, 1, 0, 3] and [len(part) for part in split.test] == [
        2,
        0,
        0,
        1,
    ]
    for i in range(4):
        both = torch.cat([split.client(i).x, split.test[i].x])[:, 0].tolist()
        assert sorted(both) == sorted(data.client(i).x[:, 0].tolist())
        kept = split.client(i).x[:, 0].tolist()
        whole = iter(data.client(i).x[:, 0].tolist())
        assert all(value in whole for value in kept)  # still in their order
    alone = local_split(FederatedData.from_index(OWNED, [[0, 1, 2, 3, 4, 5]]), 0.3, seed=2)
    assert torch.equal(alone.client(0).x, split.client(0).x)
    other = local_split(data, 0.3, seed=3)
    assert any(not torch.equal(a.x, b.x) for a, b in zip(split.test, other.test, strict=True))


def test_train_and_test_pooled():
    data = Data(OWNED, Samples(OWNED.x + 10, OWNED.y, owner=OWNER), "x", 3)
    pooled = data.pooled()
    assert pooled.x[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]
    assert pooled.owner.tolist() == OWNER.tolist() * 2
    assert Data(OWNED, Samples(OWNED.x, OWNED.y), "x", 3).pooled().owner is None


def test_a_description():
    data = FederatedData.from_index(OWNED, [[0, 2], [3, 1, 5], []])
    assert describe(data).splitlines() == [
        "3 clients, 5 samples, 3 classes",
        "samples per client  0 to 3, mean 1.67, median 2",
        "classes per client  1 to 2, mean 1.50, median 1.5",
        # Shares of 1/3 and 2/3 are worth 3 / 2^(2/3) classes.
        "effective classes   1.00 to 1.89, mean 1.44, median 1.44",
        "clients per class   1 to 1, mean 1.00, median 1",
        "without samples     1 clients",
    ]


PRIORS = {
    "equal": (0.3, {"one_by_one": True}),
    "few classes": (0.02, {"one_by_one": True}),
    "refilled": (0.1, {"one_by_one": True, "refill": True}),
    "starved": (1.0, {"one_by_one": True, "starve": True}),
    "client after client": (0.003, {"one_by_one": False}),
}


@pytest.mark.skipif(not dealing.AVAILABLE, reason="the compiled module is not there")
@pytest.mark.parametrize("clients", [1, 511, 1300])
@pytest.mark.parametrize("case", PRIORS)
def test_priors_in_half_of_their_bits_deal_the_same(case, clients):
    """As NumPy's float64 priors, drawn at once, in the loop in Python."""
    concentration, options = PRIORS[case]
    alpha = concentration * np.array([1, 0, 2, 1, 1])
    labels = generator(9).choice(5, 8 * clients + 5, p=[0.1, 0.1, 0.5, 0.2, 0.1])
    labels[-1] = 4
    sizes = np.full(clients, 8)
    ours, theirs = generator(clients), generator(clients)
    found, _ = draw_by_prior(ours, labels, DrawnPriors(ours, alpha, clients), sizes, **options)
    prior = np.zeros((clients, 5))
    prior[:, alpha > 0] = theirs.dirichlet(alpha[alpha > 0], size=clients)
    stacks, first = _stacks(theirs, labels, 5)
    given = {"refill": False, "starve": False} | options
    assert found.tolist() == _drawn_in_python(theirs, stacks, first, prior, sizes, **given).tolist()


@pytest.mark.skipif(not dealing.AVAILABLE, reason="the compiled module is not there")
def test_draws_at_the_end_of_a_class_take_the_whole_prior():
    """Draws are multiples of 2^-53: a boundary at the very draw, or one bit above it."""
    labels = np.arange(4000) % 2
    draws = generator(3)
    _stacks(draws, labels, 2)
    at = draws.random(2000)
    prior = np.stack([at, 1 - at], axis=1)
    prior[::2, 0] = np.nextafter(at[::2], 2)
    prior[:, 1] = 1 - prior[:, 0]
    order, _ = draw_by_prior(generator(3), labels, prior, np.ones(2000, dtype=int), False)
    stacks, first = _stacks(rng := generator(3), labels, 2)
    expected = _drawn_in_python(
        rng, stacks, first, prior, np.ones(2000, dtype=int), False, False, False
    )
    assert order.tolist() == expected.tolist()


def test_priors_are_drawn_again_to_the_bit():
    alpha, rng = np.array([0.01, 0.0, 0.3]), generator(5)
    rng.integers(0, 9, 3)  # which leaves half a number behind
    whole = np.zeros((1300, 3))
    made = DrawnPriors(rng, alpha, 1300)
    other = generator(5)
    other.integers(0, 9, 3)
    whole[:, [0, 2]] = other.dirichlet(alpha[[0, 2]], size=1300)
    assert rng.random() == other.random()
    assert np.array_equal(made.whole(), whole)
    for client in [*range(0, 1300, 7), *range(1299, 0, -300)] * 3:  # all are kept in the end
        assert np.array_equal(made.exact(client), whole[client])
