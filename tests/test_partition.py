"""Partitions: exact covers, the Dirichlet's own moments, distinct classes, determinism."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfast.data import (
    Samples,
    as_samples,
    dirichlet,
    dirichlet_equal,
    hsu,
    iid,
    local_split,
    natural,
    partition,
    shards,
)


def numbered(labels):
    """Samples whose input is their own row number."""
    y = torch.as_tensor(np.asarray(labels))
    return as_samples((torch.arange(len(y), dtype=torch.float64).view(-1, 1), y))


def owned(data):
    """Row numbers of each client, as the clients see them."""
    return [data.client(i).x[:, 0].long().tolist() for i in range(data.num_clients)]


def assert_exact_cover(data, samples):
    rows = owned(data)
    assert sorted(sum(rows, [])) == list(range(len(samples)))
    assert data.sizes.tolist() == [len(r) for r in rows]
    for i, r in enumerate(rows):
        assert torch.equal(data.client(i).y, samples.y[r])


OWNER = torch.tensor([7, 3, 7, 7, 9, 3])
OWNED = Samples(torch.arange(6.0)[:, None], torch.tensor([0, 1, 0, 2, 1, 1]), owner=OWNER)
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 2**32), alpha=st.floats(0.01, 100), data=st.data())
def test_iid_and_dirichlet_use_every_sample_once(labels, seed, alpha, data):
    samples = numbered(labels)
    clients = data.draw(st.integers(1, len(labels)))
    even = iid(samples, clients, seed)
    assert_exact_cover(even, samples)
    assert even.sizes.max() - even.sizes.min() <= 1
    assert_exact_cover(dirichlet(samples, clients, alpha, seed, min_size=0), samples)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    clients=st.integers(1, 12),
    classes=st.integers(1, 6),
    data=st.data(),
)
def test_shards_give_exactly_so_many_classes(seed, clients, classes, data):
    each = data.draw(st.integers(-(-classes // clients), classes))
    # Every second label: classes without samples are no classes.
    samples = numbered(np.repeat(2 * np.arange(classes), 12))
    split = shards(samples, clients, each, seed)
    assert_exact_cover(split, samples)
    counts = split.counts()
    assert ((counts > 0).sum(1) == each).all()
    holders = (counts > 0).sum(0)[::2]
    assert holders.max() - holders.min() <= 1
    for c in range(classes):
        held = counts[:, 2 * c][counts[:, 2 * c] > 0]
        assert held.max() - held.min() <= 1


@pytest.mark.parametrize("alpha", [0.1, 1.0, 30.0])
def test_dirichlet_shares_have_the_moments_of_the_distribution(alpha):
    # 200 classes of 5,000 samples are 200 independent draws of 5 shares.
    clients, classes, each = 5, 200, 5000
    samples = numbered(np.repeat(np.arange(classes), each))
    shares = dirichlet(samples, clients, alpha, seed=1).counts() / each  # [5, 200]
    variance = (1 / clients) * (1 - 1 / clients) / (clients * alpha + 1)
    error = (variance / classes) ** 0.5
    assert abs(shares.mean(1) - 1 / clients).max() < 4 * error
    # The variance pools 1,000 dependent values with heavy tails: a fifth is four deviations.
    assert abs(shares.var() / variance - 1) < 0.2
    # Shares of one class add up to one, so that any two correlate by -1 / (clients - 1).
    correlation = np.corrcoef(shares)[np.triu_indices(clients, 1)].mean()
    assert abs(correlation + 1 / (clients - 1)) < 0.005


def test_dirichlet_samples_are_shuffled_within_a_class():
    samples = numbered(np.zeros(2000, dtype=int))
    rows = owned(dirichlet(samples, 2, 1000.0, seed=0))
    # Unshuffled, the first client would own the lower half.
    assert abs(np.mean(rows[0]) - 999.5) < 4 * 2000 / (12 * 1000) ** 0.5


@pytest.mark.parametrize(
    ("name", "options"),
    [("iid", {}), ("dirichlet", {"alpha": 0.5}), ("shards", {"classes_per_client": 2})],
)
def test_the_seed_alone_decides(name, options):
    samples = numbered(np.arange(300) % 5)
    one = partition(name, samples, clients=7, seed=3, **options)
    np.random.default_rng(0).random()
    torch.manual_seed(9)
    assert owned(one) == owned(partition(name, samples, clients=7, seed=3, **options))
    assert owned(one) != owned(partition(name, samples, clients=7, seed=4, **options))
    assert one.x.data_ptr() == samples.x.data_ptr()


@pytest.mark.parametrize("min_size", [1, 5])
def test_min_size_is_met_by_drawing_again(min_size):
    samples = numbered(np.arange(2000) % 10)
    first = dirichlet(samples, 20, 0.05, seed=0, min_size=0)
    assert first.sizes.min() < min_size
    split = dirichlet(samples, 20, 0.05, seed=0, min_size=min_size)
    assert split.sizes.min() >= min_size


def test_dirichlet_splits_the_test_part_by_the_same_shares():
    train, test = numbered(np.arange(10_000) % 4), numbered(np.arange(2000) % 4)
    split = dirichlet(train, 6, 0.5, seed=2, test=test)
    own = np.stack([np.bincount(s.y, minlength=4) for s in split.test])
    assert own.sum() == 2000
    assert sorted(torch.cat([s.x[:, 0] for s in split.test]).tolist()) == list(range(2000))
    # 2,500 and 500 samples a class: cuts fall at the same shares, to a sample.
    assert abs(split.counts() / 2500 - own / 500).max() <= 1 / 500
    # The train part is the same with and without.
    assert owned(split) == owned(dirichlet(train, 6, 0.5, seed=2))


SAMPLES, FEW = numbered(np.arange(60) % 3), numbered(np.arange(12) % 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dirichlet(SAMPLES, 5, 0.0), "alpha: expected a finite number > 0.* got 0.0"),
        (lambda: dirichlet(SAMPLES, 5, -1.0), "alpha: expected .* got -1.0"),
        (lambda: dirichlet(SAMPLES, 5, float("inf")), "alpha: expected .* got inf"),
        (lambda: dirichlet(SAMPLES, 5, 1.0, min_size=13), "min_size: .* got 13"),
        (
            lambda: dirichlet(SAMPLES, 40, 0.01),
            "alpha: 1000 draws with alpha 0.01 .* 40 clients .* lower clients, or set min_size=0",
        ),
        (lambda: dirichlet(SAMPLES, 5, 1.0, test=numbered([3])), "test.y: expected labels below 3"),
        (lambda: iid(SAMPLES, 0), "clients: expected 1 <= clients <= 60 samples; got 0"),
        (lambda: iid(SAMPLES, 61), "clients: expected 1 <= clients <= 60 samples; got 61"),
        (lambda: iid(SAMPLES, 2, seed=-1), "seed: expected 0 <= seed"),
        (lambda: shards(SAMPLES, 5, 4), "classes_per_client: expected 1 to 3 classes; got 4"),
        (lambda: shards(SAMPLES, 2, 1), "clients: 2 clients of 1 classes cannot hold all 3"),
        (lambda: shards(SAMPLES, 60, 2), "clients: class 0 has 20 samples for 40 clients"),
        (
            lambda: partition("iid", SAMPLES, alpha=1),
            "iid option: .*'alpha'; .*known: clients, seed",
        ),
        (lambda: partition("dirichlit", SAMPLES), "partition: unknown name .* mean 'dirichlet'"),
        (lambda: dirichlet_equal(FEW, 3, 0.0), "alpha: expected a finite number > 0; got 0.0"),
        (lambda: dirichlet_equal(FEW, 3, 1.0, sigma=-1.0), "sigma: expected .* >= 0; got -1.0"),
        (lambda: hsu(FEW, 3, -0.5), "alpha: expected a finite number >= 0; got -0.5"),
        (lambda: hsu(numbered([0, 0, 0, 1]), 4, 0.0), "class 1 has 1 samples for 2 clients"),
        (lambda: hsu(FEW, 13, 1.0), "clients: expected 1 <= clients <= 12 samples; got 13"),
        (lambda: iid(FEW, 3, sigma=float("nan")), "sigma: expected a finite number >= 0; got nan"),
        (lambda: natural(FEW), "samples.owner: expected samples that name their owners; got none"),
        (
            lambda: natural(OWNED, clients=4),
            "clients: expected 1 to 3, the owners of at least min_size=1",
        ),
        (
            lambda: natural(OWNED, min_size=4),
            "clients: expected 1 to 0, the owners of at least min_size=4",
        ),
        (lambda: natural(OWNED, test=FEW), "test.owner: expected samples that name"),
        (lambda: local_split(natural(OWNED), 1.0), r"test_share: expected a share in \(0, 1\)"),
        (lambda: local_split(natural(OWNED, test=OWNED)), "data: expected clients without test"),
        (lambda: partition("hsu", FEW, clients=2, alpha=1, sigma=1), "hsu option: .*'sigma'"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_sliver_of_alpha_gives_each_class_to_one_client():
    split = dirichlet(SAMPLES, 5, 1e-6, seed=0, min_size=0)
    assert np.isin(split.counts(), [0, 20]).all()
