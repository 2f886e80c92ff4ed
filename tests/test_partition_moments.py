"""Partitions against the distributions behind them: moments, class counts, exact small cases."""

import numpy as np
import pytest
import torch
from data_files import load_real
from scipy import stats
from test_partition import numbered, owned

from fedfast.data import dirichlet, dirichlet_equal, hsu, iid, natural, pathological, shards


def assert_moments(found, mean, variance, fourth):
    """Mean and variance of independent draws within four standard errors."""
    n = found.size
    assert abs(found.mean() - mean) < 4 * (variance / n) ** 0.5
    error = ((fourth - variance**2) / n) ** 0.5  # of the variance about the known mean
    assert abs(((found - mean) ** 2).mean() - variance) < 4 * error


@pytest.mark.parametrize("alpha", [0.1, 0.5, 10.0])
@pytest.mark.parametrize("client", [0, 6])
def test_dirichlet_a_clients_share_of_a_class_is_a_beta(alpha, client):
    clients, classes, each = 7, 400, 1000
    samples = numbered(np.repeat(np.arange(classes), each))
    found = dirichlet(samples, clients, alpha, seed=4, min_size=0).counts()[client] / each
    law = stats.beta(alpha, (clients - 1) * alpha)
    assert_moments(found, law.mean(), law.var(), law.var() ** 2 * (law.stats("k") + 3))
    if alpha > 0.3:  # below, many shares are less than a sample, and cut off
        assert stats.kstest(found + 0.5 / each, law.cdf).statistic < 1.95 / classes**0.5


def classes_of_a_prior(alpha, classes, m, rng, n=200_000):
    """Fourth moment of a Dirichlet-multinomial count, by drawing the definition itself."""
    share = rng.beta(alpha, (classes - 1) * alpha, n)
    return ((rng.binomial(m, share) - m / classes) ** 4).mean()


@pytest.mark.parametrize("alpha", [0.1, 0.6, 5.0])
def test_dirichlet_equal_counts_have_the_moments_of_the_compound(alpha):
    """Refilled, the priors stay whole: counts of a class are Dirichlet-multinomial."""
    clients, classes, m = 500, 8, 120
    samples = numbered(np.arange(clients * m) % classes)
    counts = dirichlet_equal(samples, clients, alpha, seed=2, refill=True).counts()
    total, p = classes * alpha, 1 / classes
    variance = m * p * (1 - p) * (m + total) / (1 + total)
    fourth = classes_of_a_prior(alpha, classes, m, np.random.default_rng(0))
    for c in range(classes):
        assert_moments(counts[:, c], m * p, variance, fourth)


@pytest.mark.parametrize(
    ("classes", "clients", "total"),
    # CIFAR-10: ten clients per class; CIFAR-100: each client a class of its own; fewer than classes
    [(10, 100, 50_000), (100, 100, 50_000), (100, 50, 10_000)]
    + [(10, 100, 5000), (100, 100, 5000), (10, 4, 5000)],
)
def test_hsu_of_alpha_zero_gives_one_class_each(classes, clients, total):
    data = hsu(numbered(np.arange(total) % classes), clients, 0.0, seed=3)
    counts = data.counts()
    assert ((counts > 0).sum(axis=1) == 1).all()
    assert data.sizes.tolist() == [min(total // clients, total // classes)] * clients
    clients_of = (counts > 0).sum(axis=0)
    assert clients_of.max() - clients_of.min() <= 1
    if clients >= classes:
        assert clients_of.tolist() == [clients // classes] * classes
    rows = sum(owned(data), [])
    assert len(set(rows)) == len(rows) == counts.sum()


@pytest.mark.parametrize(
    ("classes", "per_class", "held"), [(10, 7000, 5), (10, 6000, 5), (100, 600, 15), (200, 550, 50)]
)
def test_shards_of_fedfsa(classes, per_class, held):
    """Fashion-MNIST, CIFAR-10, CIFAR-100, Tiny-ImageNet, pooled, over 100 clients."""
    data = shards(numbered(np.arange(classes * per_class) % classes), 100, held, seed=5)
    counts = data.counts()
    assert ((counts > 0).sum(axis=1) == held).all()
    assert data.sizes.tolist() == [classes * per_class // 100] * 100
    assert set(counts[counts > 0].tolist()) == {classes * per_class // (100 * held)}


def test_log_normal_sizes_have_the_moments_of_their_logarithms():
    sizes = iid(numbered(np.zeros(500_000, dtype=int)), 1000, seed=1, sigma=0.4).sizes
    logs = np.log(sizes) - np.log(500) + 0.4**2 / 2  # shares are relative to their mean
    assert_moments(logs, 0.0, 0.4**2, 3 * 0.4**4)
    assert stats.kstest(logs / 0.4, "norm").statistic < 1.95 / 1000**0.5


def test_pathological_of_two_clients_by_hand():
    """One class each of two classes of four: the same class or another, nothing else is left."""
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    found = set()
    for seed in range(20):
        kept = pathological(numbered(labels), 2, 1, seed)
        assert sorted(sum(owned(kept), [])) == list(range(8)) and kept.sizes.tolist() == [4, 4]
        refilled = pathological(numbered(labels), 2, 1, seed, refill=True)
        first, second = (set(part) for part in refilled.counts().argmax(axis=1)[:, None].tolist())
        assert ((refilled.counts() > 0).sum(axis=1) == 1).all()
        rows = sorted(sum(owned(refilled), []))
        if first == second:  # four images for eight places: each of them twice
            assert rows == sorted(2 * [r for r in range(8) if labels[r] in first])
            # The correct rule: that class is shared out, and whoever wants more takes of the rest.
            assert kept.counts().sum(axis=0).tolist() == [4, 4]
        else:
            assert rows == list(range(8)) and owned(kept) == owned(refilled)
        found.add(first == second)
    assert found == {True, False}


def test_pathological_of_all_classes_draws_from_everything():
    data = pathological(numbered(np.arange(103) % 3), 4, 3, seed=0)
    assert data.sizes.tolist() == [25] * 4 and len(set(sum(owned(data), []))) == 100


def test_a_client_whose_classes_have_run_out_takes_of_what_is_left():
    """Three clients of two samples and one class each, of two classes of three samples."""
    for seed in range(30):
        labels = numbered([0, 0, 0, 1, 1, 1])
        data, refilled = (pathological(labels, 3, 1, seed, refill) for refill in (False, True))
        counts, wanted = data.counts(), refilled.counts().argmax(axis=1)
        assert counts.sum(axis=0).tolist() == [3, 3] and data.sizes.tolist() == [2, 2, 2]
        if len(set(wanted.tolist())) == 2:  # two want the same: three samples, and one of the rest
            other = np.flatnonzero(np.bincount(wanted, minlength=2) == 1)[0]
            assert counts[wanted == other].tolist() == [[0, 2] if other else [2, 0]]
            assert sorted(counts[wanted != other].max(axis=1).tolist()) == [1, 2]


CLIENTS, CLASSES, EACH = 200, 10, 100


@pytest.mark.parametrize("held", [1, 3, 7])
def test_pathological_classes_are_chosen_uniformly_and_mixed_alike(held):
    samples, p = numbered(np.arange(CLIENTS * EACH) % CLASSES), held / CLASSES
    drawn = [pathological(samples, CLIENTS, held, s, refill=True).counts() for s in range(12)]
    holders = np.array([(counts > 0).sum(axis=0) for counts in drawn])
    assert all(((counts > 0).sum(axis=1) == held).all() for counts in drawn)
    # Holders of a class are binomial; of one class, seeds are independent.
    scores = (holders - CLIENTS * p) / (CLIENTS * p * (1 - p)) ** 0.5
    assert abs(scores).max() < 4.5
    # Of held classes of C the scores add up to 0, so that their squares have C - 1 degrees.
    freedom = 12 * (CLASSES - 1)
    found = (scores**2).sum() * (CLASSES - 1) / CLASSES
    assert abs(found - freedom) < 4 * (2 * freedom) ** 0.5
    if held > 1:  # multinomial: Pearson's statistic of each client has held - 1 degrees
        own = np.concatenate([counts[counts > 0].reshape(CLIENTS, held) for counts in drawn])
        pearson = ((own - EACH / held) ** 2 / (EACH / held)).sum(axis=1)
        assert abs(pearson.mean() - (held - 1)) < 4 * (2 * (held - 1) / len(own)) ** 0.5


@pytest.mark.parametrize("held", [2, 5])
def test_pathological_uses_every_image_once_unless_refilled(held):
    samples = numbered(np.arange(CLIENTS * EACH) % CLASSES)
    data = pathological(samples, CLIENTS, held, seed=6)
    assert sorted(sum(owned(data), [])) == list(range(CLIENTS * EACH))
    classes = (data.counts() > 0).sum(axis=1)
    assert classes.min() == held and (classes == held).mean() > 0.6
    again = pathological(samples, CLIENTS, held, seed=6, refill=True)
    assert len(set(sum(owned(again), []))) < CLIENTS * EACH
    # The choice of classes does not depend on the rule.
    both = (data.counts() > 0) | ~(again.counts() > 0)
    assert both.all()


def test_natural_clients_of_qmnist_are_its_writers():
    data = load_real("qmnist")
    clients = natural(data.train)
    writers, sizes = torch.unique(data.train.owner, return_counts=True)
    assert clients.num_clients == 539 and clients.sizes.tolist() == sizes.tolist()
    for i in (0, 200, 538):
        own = data.train.owner == writers[i]
        assert torch.equal(clients.client(i).x, data.train.x[own])
        assert torch.equal(clients.client(i).y, data.train.y[own])
