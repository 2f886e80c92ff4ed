"""Draws of the compiled module against the NumPy code of `fedfast.random`, to the bit."""

import numpy as np
import pytest
import torch
from fedfast.kernels import native, schedule
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfast import draws, random
from fedfast.batches import Packing
from fedfast.data import Augment
from fedfast.input_pipeline import draws as crops
from fedfast.random import DROPOUT, keys64
from fedfast.round_lines import Owned, packed_lines
from fedfast.rounds import Cut, drawn_round, written_round

SEEDS = st.integers(0, 2**64 - 1)
ROUNDS = st.integers(0, 2**32 - 1)
IDS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6, unique=True)


def tensor(values):
    return torch.tensor(values, dtype=torch.int64)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 700), seed=SEEDS, round=ROUNDS, data=st.data())
def test_cohorts_are_those_of_numpy(n, seed, round, data):
    eligible = 3 + 5 * np.arange(n)
    m, chance = data.draw(st.integers(0, n)), data.draw(st.floats(1e-5, 1))
    assert draws.choose(seed, round, eligible, m).tolist() == (
        random.choose(seed, round, eligible, m).tolist()
    )
    most = data.draw(st.integers(1, n))
    tossed = random.toss(seed, round, eligible, chance)[:most]
    assert draws.toss(seed, round, eligible, chance, most).tolist() == tossed.tolist()


def test_a_chance_of_one_takes_all_and_of_nearly_none_the_likeliest():
    eligible = np.arange(50_000)
    assert len(draws.toss(0, 0, eligible, 1.0, 50_000)) == 50_000
    (one,) = draws.toss(0, 0, eligible, 1e-12, 50_000)
    assert one == np.argmin(keys64(0, 0, 0, random.COHORT, 50_000))


@settings(max_examples=100, deadline=None)
@given(
    ids=IDS, seed=SEEDS, key=ROUNDS, whole=st.booleans(), width=st.integers(1, 70), data=st.data()
)
def test_batches_are_numpy_s_permutations_cut(ids, seed, key, whole, width, data):
    each = st.lists(st.integers(1, 300), min_size=len(ids), max_size=len(ids))
    sizes = np.array(data.draw(each))
    few = st.lists(st.integers(1, 3), min_size=len(ids), max_size=len(ids))
    epochs = np.array(data.draw(few))
    order = random.permutations(seed, key, ids, sizes, 3)
    turn = drawn_round(seed, key, np.array(ids), sizes, Cut(epochs, width, whole))
    if not turn.steps.max():
        return
    index, count = turn.batches(np.arange(len(ids)))
    for k, n in enumerate(sizes):
        per_epoch = n // width if whole else -(-n // width)
        assert turn.steps[k] == epochs[k] * per_epoch
        for s in range(index.shape[1]):
            e, b = divmod(s, max(1, per_epoch))
            taken = order[k, e, b * width : (b + 1) * width] if s < turn.steps[k] else []
            taken = [i for i in taken if i >= 0]
            assert index[k, s].tolist() == taken + [0] * (width - len(taken))
            assert count[k, s] == len(taken)


def test_large_permutations_are_numpy_s():
    # More than 2^20 buckets would have, and a power of two, whose largest index takes a bit more.
    for n in (1 << 12, 3_000_000):
        turn = drawn_round(5, 6, np.array([9]), np.array([n]), Cut(1, n))
        expected = random.permutations(5, 6, [9], [n], 1)[0, 0]
        np.testing.assert_array_equal(turn.batches([0])[0][0, 0].numpy(), expected)


def unpacked(lines, index, count, k, steps):
    """Client k's batches."""
    at = [int(lines[s]) + k for s in range(steps)]
    return [index[i, : count[i]].tolist() for i in at]


def rounds_of_unlike_clients():
    sizes = np.array([3, 40, 17, 0, 8, 25])
    drawn = drawn_round(1, 2, np.arange(6) * 11, sizes, Cut(np.array([2, 1, 3, 1, 1, 2]), 8))
    index, count = drawn.batches(np.arange(6))
    rows = [
        [index[k, s, :n].numpy() for s, n in enumerate(count[k].tolist()) if n] for k in range(6)
    ]
    return drawn, written_round(drawn.clients, rows, 8), sizes


@pytest.mark.parametrize("compiled", [True, False])
def test_packed_batches_are_the_same_batches(compiled, monkeypatch):
    drawn, written, sizes = rounds_of_unlike_clients()
    first = np.concatenate([[0], np.cumsum(sizes)])
    data = torch.randperm(93, generator=torch.Generator().manual_seed(0)) + 1000
    everyone = drawn.batches(np.arange(6))
    if not compiled:
        monkeypatch.setattr(native, "module", None)
        for ours, theirs in zip(drawn.batches(np.arange(6)), everyone, strict=True):
            assert torch.equal(ours, theirs)
    for turn in (drawn, written):
        at = np.argsort(-turn.steps, kind="stable")[:4]  # the client of no sample is the last
        plain, count, packing = turn.packed(at)
        offsets = packing.offsets
        owned = Owned(at, torch.from_numpy(first), data)
        rows = turn.packed(at, owned)[0]
        assert offsets.diff().tolist() == [
            int((turn.steps[at] > s).sum()) for s in range(turn.steps.max())
        ]
        for k, j in enumerate(at):
            steps = int(turn.steps[j])
            dense = [everyone[0][j, s, : everyone[1][j, s]].tolist() for s in range(steps)]
            assert unpacked(offsets, plain, count, k, steps) == dense
            own = data[first[j] : first[j + 1]]
            assert unpacked(offsets, rows, count, k, steps) == [own[b].tolist() for b in dense]
            for s in range(steps):  # padding is the client's first sample
                line = int(offsets[s]) + k
                assert (rows[line, count[line] :] == own[0]).all()


@settings(max_examples=50, deadline=None)
@given(ids=IDS, seed=SEEDS, key=ROUNDS, data=st.data())
def test_crops_and_seeds_are_those_of_numpy(ids, seed, key, data):
    steps, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    taken = sorted((data.draw(st.integers(0, steps)) for _ in ids), reverse=True)
    chance, per_batch, flip = data.draw(st.floats(0, 1)), data.draw(st.booleans()), True
    augment = Augment(
        pad=data.draw(st.integers(0, 6)), flip=flip, crop_chance=chance, per_batch=per_batch
    )
    offset, mirrored = crops(augment, seed, key, np.array(ids)[:, None], np.arange(steps), width)
    taken = [max(1, taken[0]), *taken[1:]]
    for lines in (
        schedule.Lines(len(ids), steps, width),
        packed_lines(len(ids), Packing.of(np.array(taken)), width),
    ):
        moves = torch.empty(lines.total, width, 2, dtype=torch.int32)
        flips = torch.empty(lines.total, width, dtype=torch.bool)
        seeds = torch.empty(lines.total, dtype=torch.int64)
        who = tensor(ids), tensor(taken)
        schedule.crops(
            seed,
            key,
            lines,
            *who,
            moves,
            flips,
            pad=augment.pad,
            chance=chance,
            mirrors=flip,
            per_batch=per_batch,
        ).run()
        schedule.seeds(seed, key, lines, *who, seeds).run()
        for k in range(len(ids)):
            for s in range(taken[k]):
                at = k * steps + s if lines.offsets is None else int(lines.offsets[s]) + k
                assert moves[at].tolist() == offset[k, s].tolist()
                assert flips[at].tolist() == mirrored[k, s].tolist()
                keys = keys64(seed, key, ids[k], DROPOUT + 256 * s, 1)
                assert seeds[at] == int(keys[0] >> np.uint64(1))


def made_batches(round):
    """A draw of three clients' batches, and what it writes."""
    ids, sizes, epochs = np.arange(3), np.array([9, 5, 2]), np.ones(3, dtype=np.int64)
    return schedule.batches(3, round, schedule.Lines(3, 2, 6), ids, sizes, epochs)


def test_a_worker_makes_draws_in_order_and_ends():
    worker = schedule.Worker()
    made = [made_batches(t) for t in range(5)]
    for draw, _, _ in made:
        worker.start(draw)
    for t, (draw, rows, count) in enumerate(made):
        worker.finish(draw)
        expected = random.permutations(3, t, [0], [9], 1)[0, 0]
        assert rows[0].tolist() + rows[1, :3].tolist() == expected.tolist()
        assert count.tolist() == [6, 3, 5, 0, 2, 0]
    with pytest.raises(ValueError, match="given to a worker already"):
        made[0][0].run()
    last, rows, _ = made_batches(9)
    with pytest.raises(ValueError, match="was given to no worker"):
        worker.finish(last)
    worker.start(last)
    worker.stop()  # which makes what is left
    expected = random.permutations(3, 9, [2], [2], 1)[0, 0]
    assert rows[4, :2].tolist() == expected.tolist()


def test_mistakes_are_refused_before_memory_is_touched():
    with pytest.raises(ValueError, match=r"m: expected 0 <= m <= 3, the number of ids; got 4"):
        schedule.chosen(0, 0, np.arange(3), 4)
    with pytest.raises(TypeError):  # every second number: not contiguous
        schedule.chosen(0, 0, np.arange(12)[::2], 4)
    lines, ones = schedule.Lines(2, 3, 4), np.ones(2, dtype=np.int64)
    with pytest.raises(ValueError, match=r"sizes: expected \[2\]; got 3 numbers"):
        schedule.batches(0, 0, lines, ones, np.ones(3, dtype=np.int64), ones)
    with pytest.raises(TypeError):
        schedule.batches(0, 0, lines, ones, ones, np.ones(2, dtype=np.int32))
    with pytest.raises(ValueError, match="owners: expected with begins and order"):
        schedule.batches(0, 0, lines, ones, ones, ones, owners=ones)
    with pytest.raises(ValueError, match=r"offsets: expected \[4\]; got \[3\]"):
        schedule.Lines(2, 3, 4, tensor([0, 2, 3]))
    with pytest.raises(ValueError, match=r"client: expected values in \[0, 2\^32\)"):
        drawn_round(0, 0, np.array([1 << 32]), np.array([3]), Cut(1, 2)).batches([0])
