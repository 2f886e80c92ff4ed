"""Augmented batches: whose draws they are, how they are spread, what both paths see."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federation import flat, trained
from torch import nn

import fedfast
from fedfast.data import AUGMENTS, Augment, Normalize
from fedfast.step_draws import crops_of

LOOK = Normalize((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
SIZES = [9, 1, 13, 4, 7]


def images(seed=0):
    """Clients of unequal sizes with 3 x 8 x 8 images of bytes."""
    generator = torch.Generator().manual_seed(seed)
    xs = [torch.randint(256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8) for n in SIZES]
    return xs, [torch.randint(4, (n,), generator=generator) for n in SIZES]


def cnn():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4)
        )


def simulation(data=None, **kwargs):
    data = data or fedfast.FederatedData.from_arrays(*images(), normalize=LOOK)
    settings = dict(rounds=2, participation=1.0, local_epochs=2, batch_size=4, seed=5)
    return fedfast.Simulation(cnn(), data, "fedsam", **(settings | kwargs))


def grid(clients, steps):
    """All of the first `steps` steps of `clients`: [K, 1] and [T]."""
    return np.array(clients)[:, None], np.arange(steps)


def test_a_draw_depends_on_client_round_step_and_slot_alone():
    given = Augment(crop_chance=0.7)
    offset, flip = crops_of(given, (3, 8), *grid([4, 9, 2], 5), width=6)
    assert offset.shape == (3, 5, 6, 2) and flip.shape == (3, 5, 6)
    alone = crops_of(given, (3, 8), *grid([9], 2), width=3)
    np.testing.assert_array_equal(alone[0], offset[1:2, :2, :3])
    np.testing.assert_array_equal(alone[1], flip[1:2, :2, :3])
    # Seed, round and client each change the draws; three in ten stay at the same place, uncropped.
    for other in (
        crops_of(given, (4, 8), *grid([4, 9, 2], 5), 6),
        crops_of(given, (3, 7), *grid([4, 9, 2], 5), 6),
        crops_of(given, (3, 8), *grid([5, 1, 3], 5), 6),
    ):
        assert (other[0] == offset).all(-1).mean() < 0.4 and (other[1] == flip).mean() < 0.8
    assert len({offset[0, s].tobytes() for s in range(5)}) == 5


def test_draws_are_uniform_and_independent():
    offset, flip = crops_of(Augment(pad=2), (0, 0), *grid(range(100), 10), width=25)
    place = (offset[..., 0] + 2) * 5 + offset[..., 1] + 2  # 25 places
    table = np.bincount((2 * place + flip).ravel(), minlength=50)
    expected = 25_000 / 50
    chi2 = ((table - expected) ** 2 / expected).sum()
    assert chi2 < 49 + 5 * (2 * 49) ** 0.5
    half = crops_of(AUGMENTS["crop-flip-half"], (0, 0), *grid(range(100), 10), 25)[0]
    stays = 0.5 + 0.5 / 81
    assert abs((half == 0).all(-1).mean() - stays) < 5 * (0.25 / 25_000) ** 0.5


def test_one_draw_per_batch_and_what_is_switched_off():
    offset, flip = crops_of(AUGMENTS["crop-flip-batch"], (0, 0), *grid(range(4), 6), 10)
    assert (offset == offset[:, :, :1]).all() and (flip == flip[:, :, :1]).all()
    assert len(np.unique(offset.reshape(24, -1), axis=0)) > 12
    offset, flip = crops_of(Augment(pad=0, flip=False), (0, 0), *grid(range(4), 6), 10)
    assert not offset.any() and not flip.any()


def batches(sim):
    """The first round's batches as the run's executor gets them: the real samples of every step."""
    engine, seen = sim._engine, []
    plan = sim.schedule.round(0)
    work = engine.batches(engine.trainer, 0, plan, np.argsort(-plan.steps, kind="stable"))
    for s, active in enumerate(work.active):
        batch = engine.trainer.batch(s, active, work)
        seen += [batch.x[k, : batch.count[k]].clone() for k in range(active)]
    return seen


@pytest.mark.parametrize("augment", [None, *AUGMENTS])
def test_both_executors_get_the_same_bits(augment):
    program = simulation(augment=augment)
    generic = simulation(augment=augment, loss=F.cross_entropy)
    assert program.generic_because == "" and generic.generic_because
    pairs = list(zip(batches(program), batches(generic), strict=True))
    assert len(pairs) == 2 * (3 + 1 + 4 + 1 + 2)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_augmented_batch_is_the_padded_image_cut_and_mirrored():
    sim = simulation(augment="crop-flip", participation=0.2)
    engine, plan = sim._engine, sim.schedule.round(0)
    work = engine.batches(engine.trainer, 0, plan, np.array([0]))
    offset, flip = crops_of(Augment(), (5, 0), plan.clients, np.array([1]), work.rows.shape[1])
    batch = engine.trainer.batch(1, 1, work)
    for b in range(int(batch.count[0])):
        image = engine.data.x[work.rows[1, b]]
        top, left = 4 + offset[0, b]
        cut = F.pad(image, [4] * 4)[:, top : top + 8, left : left + 8]
        expected = LOOK((cut.flip(2) if flip[0, b] else cut)[None], torch.float32)[0]
        assert torch.equal(batch.x[0, b], expected)


@pytest.mark.parametrize("loss", ["cross_entropy", F.cross_entropy], ids=["program", "generic"])
def test_chunks_and_threads_change_no_bit(loss):
    options = [
        dict(chunk=k, threads=n, augment="crop-flip") for k, n in ((1, 1), (2, 2), (None, 1))
    ]
    sims = [simulation(loss=loss, **how) for how in (*options, {})]
    for sim in sims:
        sim.run(progress=False)
    one, two, three, plain = (flat(sim.state_dict()) for sim in sims)
    assert torch.equal(one, two) and torch.equal(one, three) and not torch.equal(plain, one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_train_and_test_as_their_normalised_floats(dtype):
    xs, ys = images()
    floats = fedfast.FederatedData.from_arrays([LOOK(x, dtype) for x in xs], ys)
    pair = torch.cat(xs), torch.cat(ys)
    runs = [
        simulation(test=pair, dtype=dtype),  # the clients' normalisation is the test set's too
        simulation(data=floats, test=(LOOK(pair[0], dtype), pair[1]), dtype=dtype),
    ]
    rows = [[(r.accuracy, r.loss, r.train_loss) for r in sim.run(progress=False)] for sim in runs]
    assert rows[0] == rows[1]
    assert torch.equal(flat(runs[0].state_dict()), flat(runs[1].state_dict()))


def test_tokens_reach_an_embedding():
    tokens = [torch.randint(9, (n, 5)) for n in SIZES]
    data = fedfast.FederatedData.from_arrays(tokens, [t[:, 0] % 4 for t in tokens])
    model = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(15, 4))
    for dtype in (torch.float32, torch.float64):
        sim = trained(model, data, rounds=1, test=(tokens[0], tokens[0][:, 0] % 4), dtype=dtype)
        assert np.isfinite([(r.loss, r.train_loss) for r in sim.history]).all()


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        ("crop-flop", ValueError, "augment: unknown name 'crop-flop'; did you mean 'crop-flip'"),
        (3, TypeError, "augment: expected a name or a fedfast.data.Augment; got 3"),
    ],
)
def test_errors_name_the_argument(augment, error, message):
    with pytest.raises(error, match=message):
        simulation(augment=augment)


def test_floats_are_not_augmented():
    xs, ys = images()
    floats = fedfast.FederatedData.from_arrays([x / 255 for x in xs], ys)
    with pytest.raises(ValueError, match="augment: expected images of bytes.*torch.float32"):
        simulation(data=floats, augment="crop-flip")
    with pytest.raises(ValueError, match="test: expected torch.uint8 as the clients' data"):
        simulation(test=(xs[0] / 255, ys[0]))
