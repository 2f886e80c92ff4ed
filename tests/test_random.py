"""The counter-based generator: known answers, permutations, uniformity, independence of company."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from fedfast import random

ONES = 0xFFFFFFFF

# Random123, tests/kat_vectors, lines "philox4x32 10": counter, key, answer.
KNOWN = [
    ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([ONES] * 4, (ONES, ONES), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_known_answers(counter, key, answer):
    assert random.philox4x32(counter, key).tolist() == answer


def test_philox_many_counters_at_once_are_the_same_counters_one_by_one():
    counters = [counter for counter, _, _ in KNOWN]
    together = random.philox4x32(counters, (7, 9))
    assert together.tolist() == [random.philox4x32(c, (7, 9)).tolist() for c in counters]


def test_keys_are_the_blocks_of_the_documented_counter():
    seed, round, client, purpose = 0x299F31D0A4093822, 0x03707344, 0x13198A2E, 0x85A308D3
    keys = random.keys64(seed, round, client, purpose, 5)
    for block in range(3):
        w = random.philox4x32([block, purpose, client, round], (0xA4093822, 0x299F31D0))
        words = [int(v) for v in w]
        expected = [words[0] | words[1] << 32, words[2] | words[3] << 32]
        assert keys[2 * block : 2 * block + 2].tolist() == expected[: 5 - 2 * block]


def test_keys_differ_in_every_part_of_the_address():
    base = random.keys64(1, 2, 3, 4, 8)
    for other in ((9, 2, 3, 4), (1 + (1 << 32), 2, 3, 4), (1, 9, 3, 4), (1, 2, 9, 4), (1, 2, 3, 9)):
        assert not np.isin(random.keys64(*other, 8), base).any()


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**64 - 1),
)
def test_permutations_are_permutations(sizes, epochs, seed):
    out = random.permutations(seed, 5, np.arange(len(sizes)), sizes, epochs)
    assert out.shape == (len(sizes), epochs, max(sizes))
    for c, n in enumerate(sizes):
        assert (np.sort(out[c, :, :n], axis=-1) == np.arange(n)).all()
        assert (out[c, :, n:] == -1).all()


def test_permutations_do_not_depend_on_company_or_order():
    # More elements than one slice holds, of very unlike sizes, so that slices differ.
    sizes = np.random.default_rng(0).integers(1, 3000, 150)
    clients = np.arange(150) * 7
    together = random.permutations(3, 4, clients, sizes, 2)
    backwards = random.permutations(3, 4, clients[::-1], sizes[::-1], 2)[::-1]
    np.testing.assert_array_equal(together, backwards)
    for c in (0, 17, 149):
        alone = random.permutations(3, 4, clients[c : c + 1], sizes[c : c + 1], 2)[0]
        np.testing.assert_array_equal(alone, together[c, :, : sizes[c]])


def test_permutations_change_with_epoch_round_client_and_seed():
    def first(seed, round, client):
        return random.permutations(seed, round, [client], [50], 2)[0]

    base = first(0, 0, 0)
    drawn = [base[0], base[1], first(1, 0, 0)[0], first(0, 1, 0)[0], first(0, 0, 1)[0]]
    assert len({tuple(p) for p in drawn}) == 5


def test_permutations_are_uniform():
    # All 24 orders of four samples, 24,000 clients, fixed seed.
    orders = random.permutations(0, 0, np.arange(24_000), np.full(24_000, 4), 1)[:, 0]
    seen = np.unique(orders @ [1000, 100, 10, 1], return_counts=True)[1]
    assert seen.size == 24
    assert ((seen - 1000) ** 2 / 1000).sum() < chi2.ppf(0.999, 23)


def test_permutations_of_a_thousand_clients_are_fast():
    start = time.perf_counter()
    random.permutations(0, 0, np.arange(1000), np.full(1000, 600), 5)
    assert time.perf_counter() - start < 2  # 0.1 s alone on one core


@pytest.mark.parametrize("m", [3, 15])
def test_choose_is_uniform_over_members_and_places(m):
    # m = 3 of 20 takes the sparse path, 15 of 20 the dense one.
    rounds, n = 4000, 20
    cohorts = np.stack([random.choose(11, t, np.arange(n), m) for t in range(rounds)])
    assert all(len(set(c)) == m for c in cohorts.tolist())
    first = np.bincount(cohorts[:, 0], minlength=n)
    assert ((first - rounds / n) ** 2 / (rounds / n)).sum() < chi2.ppf(0.999, n - 1)
    # Members of one cohort exclude each other: variance m/n (1 - m/n), and n - 1 of n directions.
    member = np.bincount(cohorts.ravel(), minlength=n)
    mean, variance = rounds * m / n, rounds * m / n * (1 - m / n)
    statistic = ((member - mean) ** 2 / variance).sum() * (n - 1) / n
    assert chi2.ppf(0.001, n - 1) < statistic < chi2.ppf(0.999, n - 1)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 60), seed=st.integers(0, 2**32), data=st.data())
def test_choose_draws_distinct_eligible_ids(n, seed, data):
    m = data.draw(st.integers(0, n))
    eligible = 5 + 3 * np.arange(n)
    drawn = random.choose(seed, 2, eligible, m)
    assert drawn.shape == (m,) and len(set(drawn.tolist())) == m
    assert np.isin(drawn, eligible).all()


def test_choose_from_millions_costs_little():
    eligible = np.arange(5_000_000)
    start = time.perf_counter()
    assert len(set(random.choose(0, 0, eligible, 1000).tolist())) == 1000
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: random.keys64(-1, 0, 0, 0, 1), ValueError, "seed: expected 0 <= seed"),
        (lambda: random.keys64(0.5, 0, 0, 0, 1), TypeError, "seed: expected an integer; got 0.5"),
        (lambda: random.keys64(0, 1 << 32, 0, 0, 1), ValueError, "round: expected values in"),
        (lambda: random.keys64(0, 0, 1.5, 0, 1), TypeError, "client: expected integers"),
        (lambda: random.choose(0, 0, [1, 2], 3), ValueError, "m: expected 0 <= m <= 2"),
        (lambda: random.permutations(0, 0, [1, 2], [3], 1), ValueError, "sizes: expected the sh"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_no_two_purposes_share_a_stream():
    purposes = [v for name, v in vars(random).items() if name.isupper() and name[0] != "_"]
    assert len(purposes) == len(set(purposes)) and 0 < min(purposes) <= max(purposes) < 256
