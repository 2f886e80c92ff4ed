"""Samples that come with a call of `Cohort.train`: their forms, sizes, and where they lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from federation import arrays, federation, mlp, next_word, sentences
from torch import nn

import fedfast
from fedfast import cohort_options
from fedfast.data import Normalize, Samples

SIZES = [9, 14, 0, 5]
XS, YS = arrays(SIZES)
PAIRS = list(zip(XS, YS, strict=True))
IDS = [3, 0, 2, 1]


def expected(**options):
    cohort = fedfast.Cohort(mlp(), federation(SIZES), batch_size=4, threads=1, **options)
    return cohort.train(IDS, round=2).models.clone()


def doubled(i):
    return XS[i].double(), YS[i].int()


FORMS = {
    "pairs": [PAIRS[i] for i in IDS],
    "lists": [list(PAIRS[i]) for i in IDS],
    "numpy": [(XS[i].numpy(), YS[i].numpy()) for i in IDS],
    "float64 and int32": [doubled(i) for i in IDS],
    "some float64": [doubled(i) if i else PAIRS[i] for i in IDS],
    "samples": [Samples(*PAIRS[i]) for i in IDS],
    "datasets": [PAIRS[i] if i == 2 else torch.utils.data.TensorDataset(*PAIRS[i]) for i in IDS],
    "a map": {j: PAIRS[i] for j, i in enumerate(IDS)},
    "strided": [(torch.stack([XS[i], XS[i]], 2)[..., 1].t().contiguous().t(), YS[i]) for i in IDS],
    "federated": fedfast.FederatedData.from_arrays([XS[i] for i in IDS], [YS[i] for i in IDS]),
    "of a pool": fedfast.FederatedData.from_index(
        (torch.cat(XS), torch.cat(YS)),
        [np.arange(28)[np.repeat(range(4), SIZES) == i] for i in IDS],
    ),
}


@pytest.mark.parametrize("first", [False, True], ids=["later", "in the first call"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_samples_trains_the_bits_of_the_cohorts_own(form, first):
    cohort = fedfast.Cohort(mlp(), batch_size=4, threads=1)
    if not first:
        cohort.train([7], data=[PAIRS[1]])
    assert torch.equal(cohort.train(IDS, data=FORMS[form], round=2).models, expected())


def test_samples_of_a_call_take_the_place_of_the_cohorts_own_for_that_call():
    cohort = fedfast.Cohort(mlp(), federation([6, 6, 6, 6], seed=1), batch_size=4, threads=1)
    before = cohort.train(IDS, round=2).models.clone()
    given = cohort.train(IDS, data=FORMS["pairs"], round=2)
    assert given.samples.tolist() == [5, 9, 0, 14]
    assert torch.equal(given.models, expected())
    assert torch.equal(cohort.train(IDS, round=2).models, before)


def test_all_of_a_clients_samples_at_once_however_many_come():
    cohort = fedfast.Cohort(mlp(dtype=torch.float64), batch_size=None, lr=0.3, dtype=torch.float64)
    for size in (2, 9, 40, 5):
        (x,), (y,) = arrays([size], seed=size)
        net = mlp(dtype=torch.float64)
        loss = nn.functional.cross_entropy(net(x.double()), y)
        loss.backward()
        update = cohort.train([0], data=[(x, y)])
        for name, p in net.named_parameters():
            found = update.state_dict(0)[name]
            assert (found - (p - 0.3 * p.grad).detach()).abs().max() < 1e-12
        assert int(update.steps[0]) == 1


def test_model_and_program_are_looked_at_once(monkeypatch):
    made, compared = [], []
    design, difference = cohort_options.Design.__init__, fedfast.design.difference
    monkeypatch.setattr(cohort_options.Design, "__init__", lambda *a: made.append(1) or design(*a))
    monkeypatch.setattr(
        "fedfast.design.difference", lambda *a: compared.append(1) or difference(*a)
    )
    cohort = fedfast.Cohort(mlp(), batch_size=4, threads=1)
    for n in (3, 4, 1, 4):
        cohort.train(data=PAIRS[:2] * n)
    assert (len(made), len(compared)) == (1, 1) and cohort.generic_because == ""


def test_samples_lie_where_those_of_the_call_before_lay_unless_they_are_more():
    cohort = fedfast.Cohort(mlp(), batch_size=4, threads=1)
    places = []
    for given in (PAIRS, PAIRS[:1], PAIRS, PAIRS * 2):
        cohort.train(data=given)
        places.append(cohort._parts.call.x.data_ptr())
    assert places[0] == places[1] == places[2] != places[3]


def test_bytes_are_normalized_as_the_cohorts_own_are():
    generator = torch.Generator().manual_seed(0)
    xs = [torch.randint(256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator) for n in (6, 9)]
    ys = [torch.randint(3, (len(x),), generator=generator) for x in xs]
    net = mlp(16, 3)
    own = fedfast.FederatedData.from_arrays(xs, ys, normalize=Normalize((0.3,), (0.2,)))
    given = dict(batch_size=4, augment=fedfast.data.Augment(pad=1), threads=1)
    cohort = fedfast.Cohort(net, own, **given)
    models = cohort.train([1, 0], round=0).models.clone()
    listed = [(xs[1], ys[1]), (xs[0], ys[0])]
    assert torch.equal(cohort.train([1, 0], data=listed, round=0).models, models)
    other = fedfast.FederatedData.from_arrays(xs, ys)
    with pytest.raises(ValueError, match="data: expected bytes normalized by Normalize"):
        cohort.train([1, 0], data=other)


def test_words_and_what_a_module_draws():
    data = sentences([6, 8])
    cohort = fedfast.Cohort(next_word(), data, batch_size=4, threads=1, loss=nn.NLLLoss())
    models = cohort.train(round=4).models.clone()
    assert cohort.generic_because == "the loss is a callable"
    handed = fedfast.Cohort(next_word(), batch_size=4, threads=1, loss=nn.NLLLoss())
    parts = [(s.x, s.y) for s in map(data.client, range(2))]
    assert torch.equal(handed.train(data=parts, round=4).models, models)


def test_targets_of_a_regression():
    xs, _ = arrays([5, 7])
    ys = [x.sum(1, keepdim=True) for x in xs]
    cohort = fedfast.Cohort(mlp(classes=1), batch_size=None, lr=0.1, loss=nn.functional.mse_loss)
    update = cohort.train(data=[(x, y.double()) for x, y in zip(xs, ys, strict=True)])
    with torch.no_grad():
        losses = [float(((mlp(classes=1)(x) - y) ** 2).mean()) for x, y in zip(xs, ys, strict=True)]
    assert update.losses.tolist() == pytest.approx(losses, rel=1e-6)


BAD = {
    "more": (PAIRS, "data: expected one entry per client, 2; got 4"),
    "a number": ([PAIRS[0], 3], r"data\[1\]: expected .*"),
    "a text": ([PAIRS[0], "xy"], r"data\[1\]: expected \(x, y\)"),
    "labels too few": ([PAIRS[0], (XS[1], YS[1][:3])], r"data\[1\].y: expected shape \[14\]"),
    "other samples": (
        [PAIRS[0], (XS[1][:, :5], YS[1])],
        r"data\[1\].x: expected samples of shape \[8\], torch.float32; got \[5\]",
    ),
    "bytes": ([(XS[0].byte(), YS[0]), PAIRS[1]], r"data\[0\].x: expected samples"),
    "a class too much": ([PAIRS[0], (XS[1], YS[1] + 3)], r"data: label [4-6] is out of range"),
    "negative labels": ([PAIRS[0], (XS[1], YS[1] - 4)], r"data\[1\].y: expected labels >= 0"),
    "targets": ([PAIRS[0], (XS[1], XS[1][:, :1])], r"data\[1\].y: expected targets"),
    "no number": ([PAIRS[0], (XS[1] * torch.nan, YS[1])], r"data\[1\].x: expected finite values"),
}


@pytest.mark.parametrize("case", BAD)
def test_samples_that_do_not_fit_are_named_and_nothing_changes(case):
    given, match = BAD[case]
    cohort = fedfast.Cohort(mlp(), None, "scaffold", batch_size=4, threads=1)
    cohort.step(cohort.train([0, 1], data=PAIRS[:2]))
    kept = [cohort.client_state(0)["c_i"], cohort.server_state()["c"]]
    error = TypeError if case == "a text" else (TypeError, ValueError)
    with pytest.raises(error, match=match):
        cohort.train([0, 1], data=given)
    assert torch.equal(cohort.client_state(0)["c_i"], kept[0])
    assert torch.equal(cohort.server_state()["c"], kept[1])


class Repeats:
    """A recorder in the place of CUDA graphs: counts what it records and repeats."""

    def __init__(self) -> None:
        self.recordings = self.replays = 0

    def record(self, step):
        self.recordings += 1

        def replay():
            self.replays += 1
            step()

        return replay


def test_recorded_steps_are_recorded_anew_only_where_samples_lie_elsewhere(monkeypatch):
    larger = [tuple(torch.cat([t, t]) for t in pair) for pair in PAIRS[:2]]
    calls = [*[PAIRS[:2]] * 4, *[larger] * 3]
    rates = [[0.1, 0.3], 0.2, [0.3, 0.1], 0.1, [0.2, 0.1], 0.3, 0.1]
    eager, recorder, expected = fedfast.Cohort(mlp(), batch_size=4, threads=1), Repeats(), []
    for given, lr in zip(calls, rates, strict=True):
        expected.append(eager.train(data=given, lr=lr).models.clone())
    monkeypatch.setattr("fedfast.client_loop.recorder_for", lambda *_: recorder)
    cohort, counts = fedfast.Cohort(mlp(), batch_size=4, threads=1), []
    for given, lr, models in zip(calls, rates, expected, strict=True):
        assert torch.equal(cohort.train(data=given, lr=lr).models, models)
        counts.append(recorder.recordings)
    assert 0 < counts[1] == counts[3] < counts[5] == counts[6] < recorder.replays
