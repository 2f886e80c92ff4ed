"""Partitions in whole arrays deal exactly what loops over clients deal, compiled or not."""

import numpy as np
import pytest
import torch
from fedfast.kernels import dealing
from fedfast.kernels.threads import thread_count
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import partition_loops as loops

from fedfast.data import (
    FederatedData,
    Samples,
    describe,
    dirichlet,
    dirichlet_equal,
    hsu,
    iid,
    local_split,
    natural,
    pathological,
    shards,
)
from fedfast.data._assign import _cut
from fedfast.data._fixed_sizes import _after, draw_by_prior
from fedfast.data._priors import DrawnPriors, prior_of
from fedfast.random import SPLIT, keys64

FORMS = {
    "iid": (iid, loops.iid, {"sigma": st.sampled_from([0.0, 0.7])}),
    "dirichlet": (
        dirichlet,
        loops.dirichlet,
        {"alpha": st.sampled_from([0.05, 0.3, 5.0]), "min_size": st.sampled_from([0, 1])},
    ),
    "dirichlet_equal": (
        dirichlet_equal,
        loops.dirichlet_equal,
        {
            "alpha": st.sampled_from([0.02, 0.3, 5.0]),
            "sigma": st.sampled_from([0.0, 0.7]),
            "refill": st.booleans(),
            "starve": st.booleans(),
        },
    ),
    "hsu": (hsu, loops.hsu, {"alpha": st.sampled_from([0.0, 0.2, 3.0])}),
    "shards": (shards, loops.shards, {"classes_per_client": st.integers(1, 3)}),
    "pathological": (
        pathological,
        loops.pathological,
        {"classes_per_client": st.integers(1, 3), "refill": st.booleans()},
    ),
}


def parts_of(data):
    order, ends = data.order.numpy(), data.offsets.tolist()
    assert np.array_equal(np.diff(ends), data.sizes)
    return [order[a:b] for a, b in zip(ends, ends[1:], strict=False)]


def samples_of(labels, owner=None):
    owner = None if owner is None else torch.from_numpy(owner)
    return Samples(torch.zeros(labels.size, 1), torch.from_numpy(labels), owner=owner)


def same(found, expected):
    assert len(found) == len(expected)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(draw=st.data())
def test_partitions_deal_what_loops_over_clients_deal(form, compiled, draw):
    if compiled and not dealing.AVAILABLE:
        pytest.skip("the compiled module is not there")
    make, loop, options = FORMS[form]
    classes, seed = draw.draw(st.integers(4, 9)), draw.draw(st.integers(0, 1 << 40))
    n, clients = draw.draw(st.integers(150, 700)), draw.draw(st.integers(9, 24))
    labels = np.random.default_rng(seed).integers(0, classes, n)
    if draw.draw(st.booleans()):
        labels[labels == 1] = 2  # a class without samples
    given = {name: draw.draw(of) for name, of in options.items()}
    if form == "dirichlet" and given["alpha"] < 0.1:
        given["min_size"] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dealing, "AVAILABLE", compiled)
        found = make(samples_of(labels), clients, seed=seed, **given)
    same(parts_of(found), loop(labels, clients, seed, **given))


@pytest.mark.skipif(not dealing.AVAILABLE, reason="the compiled module is not there")
@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 17, 18, 33, 5000])
def test_the_compiled_shuffle_is_numpys(size):
    for kind in (np.int32, np.int64):
        values, expected = (np.arange(size, dtype=kind) for _ in range(2))
        ours, theirs = loops.generator(size), loops.generator(size)
        dealing.shuffle(ours, values)
        theirs.shuffle(expected)
        assert np.array_equal(values, expected)
        assert ours.random() == theirs.random()  # both have drawn equally much


@pytest.mark.skipif(not dealing.AVAILABLE, reason="the compiled module is not there")
@pytest.mark.parametrize("size", [1 << 18, (1 << 18) + 1, 20 << 14, 300_007])
def test_a_shuffle_by_two_threads_is_numpys(size):
    for kind in (np.int32, np.int64):
        values, expected = (np.arange(size, dtype=kind) for _ in range(2))
        ours, theirs = loops.generator(size), loops.generator(size)
        with thread_count(2):
            dealing.shuffle(ours, values)
        theirs.shuffle(expected)
        assert np.array_equal(values, expected)
        assert ours.random() == theirs.random()


@pytest.mark.skipif(not dealing.AVAILABLE, reason="the compiled module is not there")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_prior_comes_back(threads, monkeypatch):
    def exact(prior, client):
        raise MemoryError("no room for the prior")

    monkeypatch.setattr(DrawnPriors, "exact", exact)
    labels = np.arange(400_000) % 5
    with thread_count(threads), pytest.raises(MemoryError, match="no room for the prior"):
        dirichlet_equal(samples_of(labels), 20_000, 0.3, starve=True)


@pytest.mark.skipif(not dealing.AVAILABLE, reason="the compiled module is not there")
@given(
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    count=st.integers(0, 1 << 20),
)
def test_cuts_are_those_of_numpy(shares, count):
    own = np.array(shares) / max(sum(shares), 1e-300)
    found = dealing.cut(own, count)
    assert found.tolist() == _cut(own, count).tolist()
    assert found.sum(dtype=np.int64) == count


@settings(max_examples=60, deadline=None)
@given(
    owner=st.lists(st.integers(-(1 << 40), 1 << 40), min_size=1, max_size=60)
    | st.lists(st.integers(-3, 5), min_size=1, max_size=60)
    | st.lists(st.sampled_from([-(1 << 63), 0, (1 << 63) - 1]), min_size=1, max_size=9),
    ordered=st.booleans(),
    share=st.floats(0, 1),
)
def test_natural_clients_are_the_owners_in_order(owner, ordered, share):
    owner = np.array(sorted(owner) if ordered else owner, dtype=np.int64)
    ids, sizes = np.unique(owner, return_counts=True)
    least = int(np.median(sizes))
    many = 1 + int(share * ((sizes >= least).sum() - 1))
    pool = samples_of(np.zeros(owner.size, dtype=np.int64), owner)
    same(parts_of(natural(pool)), [np.flatnonzero(owner == i) for i in ids])
    found = natural(pool, many, 3, least)
    same(parts_of(found), loops.natural(owner, many, 3, least))


def test_owners_tests_are_theirs_and_empty_where_they_have_none():
    owner = np.array([7, 3, 7, 9, 3, 11])
    other = np.array([9, 5, 7, 9, 40])
    pool, tests = (samples_of(np.arange(o.size), o) for o in (owner, other))
    data = natural(pool, test=tests)
    assert [part.y.tolist() for part in data.test] == [[], [2], [0, 3], []]


INDICES = [[2, 0], [], [3, 3, 1]]


@pytest.mark.parametrize(
    "given",
    [
        INDICES,
        [np.array(rows, dtype=np.int32) for rows in INDICES],
        dict(enumerate(INDICES)),
        {2: INDICES[2], 0: INDICES[0], 1: INDICES[1]},
        [tuple(INDICES[0]), range(0), torch.tensor(INDICES[2])],
    ],
    ids=["lists", "arrays", "map", "unordered map", "mixed"],
)
def test_every_form_of_an_index_is_the_same_clients(given):
    pool = samples_of(np.arange(4))
    same(parts_of(FederatedData.from_index(pool, given)), INDICES)
    csr = FederatedData.from_csr(pool, [0, 2, 2, 5], [2, 0, 3, 3, 1])
    same(parts_of(csr), INDICES)


def test_matrices_of_rows_are_clients_and_are_copied():
    pool, table = samples_of(np.arange(6)), np.array([[5, 1], [0, 4], [2, 2]])
    data, tensors = (FederatedData.from_index(pool, t) for t in (table, torch.from_numpy(table)))
    expected = table.copy()
    table[:] = 0
    for found in (data, tensors):
        same(parts_of(found), expected)
    same(parts_of(FederatedData.from_csr(pool, np.array([0, 1, 4]))), [[0], [1, 2, 3]])


@pytest.mark.parametrize(
    "offsets, order, message",
    [
        ([1, 2], None, r"offsets: expected \[N \+ 1\] integers from 0"),
        ([0, 3, 2], [0, 1], "that do not fall"),
        ([0, 3], [0, 1], "offsets: expected to end at 2, the length of order; got 3"),
        ([0, 9], None, "offsets: expected at most 4, the samples; got 9"),
        ([0, 1, 3], [0, 1, 4], r"order: client 1: expected rows in \[0, 4\); got 4 at 2"),
        ([0.0, 1.0], None, r"offsets: expected integers \[m\]; got float64 \[2\]"),
        ([0, 0], [], "at least one sample"),
    ],
)
def test_arrays_that_are_no_clients_are_named(offsets, order, message):
    with pytest.raises(ValueError, match=message):
        order = order and np.array(order)
        FederatedData.from_csr(samples_of(np.arange(4)), np.array(offsets), order)


def test_the_client_of_a_bad_row_is_named_in_every_form():
    pool, message = samples_of(np.arange(4)), r"client 1: expected rows in \[0, 4\); got 2..4"
    for rows in ([[0, 1], [4, 2]], np.array([[0, 1], [4, 2]]), [np.array([0]), np.array([4, 2])]):
        with pytest.raises(ValueError, match=message):
            FederatedData.from_index(pool, rows)


def test_arrays_of_equal_clients_are_those_of_a_list():
    rng = np.random.default_rng(1)
    xs, ys = rng.normal(size=(4, 3, 2)).astype(np.float32), rng.integers(0, 5, (4, 3))
    whole = FederatedData.from_arrays(xs, ys)
    parts = FederatedData.from_arrays([torch.from_numpy(x) for x in xs], list(ys))
    slow = FederatedData.from_arrays([x.tolist() and np.asarray(x) for x in xs], map_of(ys))
    for other in (parts, slow):
        assert torch.equal(whole.x, other.x) and torch.equal(whole.y, other.y)
        assert torch.equal(whole.order, other.order) and whole.sizes.tolist() == [3] * 4
    xs[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"client 2\.x: expected finite values; sample 1"):
        FederatedData.from_arrays(xs, ys)


def map_of(values):
    return {i: value for i, value in enumerate(values)}


def test_counts_in_blocks_are_counts(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 7, 500)
    data = dirichlet(samples_of(labels), 31, 0.2, min_size=0)
    whole = [np.bincount(labels[part], minlength=7) for part in parts_of(data)]
    lines = describe(data)
    for block in (1, 9, 64, 10_000):
        monkeypatch.setattr("fedfast.data.federated.COUNTED", block)
        assert np.array_equal(data.counts(), whole)
        assert describe(data) == lines


def test_repeated_clients_have_the_rows_of_the_ones_they_repeat():
    base = FederatedData.from_index(samples_of(np.arange(6)), [[4, 1], [], [0, 2, 5]])
    many = base.repeated(8)
    expected = [base.client(i % 3).y.tolist() for i in range(8)]
    assert [many.client(i).y.tolist() for i in range(8)] == expected
    assert many.owned().tolist() == many.pooled().order.tolist() == sum(expected, [])
    assert many.counts().tolist() == [np.bincount(own, minlength=6).tolist() for own in expected]
    rows = many.rows(np.array([6, 2]), torch.tensor([[[1, 0]], [[2, 1]]]))
    assert rows.tolist() == [[[1, 4]], [[5, 2]]]
    assert len(base.repeated(2).owned()) == 2


def test_more_repeated_clients_than_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr("fedfast.data.size_limits.available_memory", lambda: 10**9)
    base = FederatedData.from_index(samples_of(np.arange(6)), [[4, 1], [], [0, 2, 5]])
    with pytest.raises(ValueError, match="clients: expected what fits into memory, 0.9 GiB free"):
        base.repeated(10**8)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
def test_local_splits_set_aside_what_each_client_alone_would(share):
    rng, sizes = np.random.default_rng(2), [0, 1, 2, 7, 7, 7, 40, 3, 0, 7]
    index = [rng.integers(0, 99, n) for n in sizes]
    data = local_split(FederatedData.from_index(samples_of(np.arange(99)), index), share, 5)
    for i, rows in enumerate(index):
        count = min(round(share * rows.size), max(rows.size - 1, 0))
        drawn = np.argsort(keys64(5, 0, i, SPLIT, rows.size), kind="stable")[:count]
        aside = np.isin(np.arange(rows.size), drawn)
        assert data.client(i).y.tolist() == rows[~aside].tolist()
        assert data.test[i].y.tolist() == rows[aside].tolist()


def test_a_hopeless_draw_is_given_up_soon():
    labels = np.zeros(4000, dtype=np.int64)
    with pytest.raises(ValueError, match="alpha: 4 draws with alpha 0.1 left some"):
        dirichlet(samples_of(labels), 2000, 0.1)


@given(st.integers(0, 2**64 - 1), st.integers(0, 40), st.integers(0, 3000))
def test_generators_are_moved_as_by_drawing(seed, before, draws):
    rng = np.random.Generator(np.random.Philox(seed))
    rng.random(before)
    ahead = _after(rng, draws)
    rng.random(draws)
    assert rng.random(9).tolist() == ahead.random(9).tolist()


@pytest.mark.skipif(not dealing.AVAILABLE, reason="the compiled module is not there")
def test_classes_by_bits_are_priors_alike():
    rng = np.random.Generator(np.random.Philox(3))
    labels, sizes = rng.integers(0, 9, 4000), rng.integers(0, 12, 600)
    owned = rng.integers(1, 2**9, 600).astype(np.uint64)
    for refill, starve in ((False, False), (True, False), (False, True)):
        if starve:
            owned |= np.uint64(2)  # another class than 0
        options = sizes, True, refill, starve
        ours, theirs = (
            draw_by_prior(np.random.Generator(np.random.Philox(1)), labels, prior, *options)[0]
            for prior in (owned, prior_of(owned, 9))
        )
        assert ours.tolist() == theirs.tolist()
