"""Accuracies against scikit-learn, on both evaluators and on clients' own test parts."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federation import trained
from sklearn.metrics import accuracy_score, hamming_loss
from torch import nn

from fedfast import FederatedData
from fedfast.history import History
from fedfast.metrics import metric_for
from fedfast.report import plots, run_table

BCE = F.binary_cross_entropy_with_logits
N, WIDTH = 61, 6
X = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Z = X @ torch.randn(WIDTH, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
BINARY, MANY = (Z[:, 0] > 0.3).long(), (Z > 0.2).double()


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WIDTH, 1))

    def forward(self, x):
        return self.net(x)[:, 0]


def run(model, y, loss, **more):
    xs, ys = [X[:30], X[30:]], [y[:30], y[30:]]
    data = FederatedData.from_arrays(xs, ys, test=list(zip(xs, ys, strict=True)))
    args = dict(rounds=2, participation=1.0, batch_size=8, lr=0.5, dtype=torch.float64)
    sim = trained(model, data, test=(X, y), loss=loss, **(args | more))
    return sim, sim.model()(X).detach()


def scores_agree(sim, expected):
    row = sim.history.last()
    assert row.accuracy == pytest.approx(expected, abs=1e-12)
    assert row.pooled_accuracy == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("loss", "last", "threshold"),
    [
        (nn.BCEWithLogitsLoss(), (), 0.0),
        (BCE, (), 0.0),
        (partial(BCE, pos_weight=torch.tensor(3.0)), (), 0.0),
        (lambda z, y: BCE(z[:, 0], y.to(z.dtype)), (), 0.0),
        (lambda z, y: F.soft_margin_loss(z[:, 0], 2.0 * y - 1), (), 0.0),
        (nn.BCELoss(), (nn.Sigmoid(),), 0.5),
        (lambda z, y: F.binary_cross_entropy(z[:, 0], y.to(z.dtype)), (nn.Sigmoid(),), 0.5),
        (lambda z, y: F.mse_loss(z[:, 0], y.to(z.dtype)), (), 0.5),
    ],
)
def test_one_column_is_read_at_the_losss_threshold(loss, last, threshold):
    sim, out = run(nn.Sequential(nn.Linear(WIDTH, 1), *last), BINARY, loss)
    expected = accuracy_score(BINARY, out[:, 0] > threshold)
    assert expected > 0.7
    scores_agree(sim, expected)


def hinge(z, y):
    return (1 - z * y).clamp(min=0).mean()


@pytest.mark.parametrize(
    ("model", "y", "loss"),
    [
        (Flat(), BINARY, lambda z, t: BCE(z, t.to(z.dtype))),
        (Flat(), BINARY[:, None].double(), nn.BCEWithLogitsLoss()),
        (nn.Linear(WIDTH, 1), (2 * BINARY - 1).double()[:, None], hinge),
    ],
    ids=["no column of outputs", "a column of targets", "targets of plus and minus one"],
)
def test_binary_targets_of_other_forms(model, y, loss):
    sim, out = run(model, y, loss)
    scores_agree(sim, accuracy_score(BINARY, out.flatten() > 0))


@pytest.mark.parametrize("y", [MANY, MANY.long(), MANY.bool()])
@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), nn.MultiLabelSoftMarginLoss()])
def test_several_labels_count_label_by_label(loss, y):
    sim, out = run(nn.Linear(WIDTH, 4), y, loss, algorithm="fedavg")
    scores_agree(sim, 1 - hamming_loss(MANY, out > 0))
    assert 0.5 < sim.history.last().accuracy < 1


@pytest.mark.parametrize(
    ("loss", "y", "last"),
    [
        ("cross_entropy", Z.argmax(1), ()),
        (nn.NLLLoss(), Z.argmax(1), (nn.LogSoftmax(dim=1),)),
        (nn.MultiMarginLoss(), Z.argmax(1), ()),
        (nn.CrossEntropyLoss(), F.one_hot(Z.argmax(1), 4).double(), ()),
        (lambda z, y: F.cross_entropy(z, y), Z.argmax(1), ()),
        (lambda z, y: F.mse_loss(z, F.one_hot(y, 4).to(z.dtype)), Z.argmax(1), ()),
        (lambda z, y: F.mse_loss(z, y), F.one_hot(Z.argmax(1), 4).double(), ()),
    ],
)
def test_classes_are_read_by_argmax(loss, y, last):
    sim, out = run(nn.Sequential(nn.Linear(WIDTH, 4), *last), y, loss)
    scores_agree(sim, accuracy_score(Z.argmax(1), out.argmax(1)))


@pytest.mark.parametrize(
    ("loss", "columns"), [(nn.MSELoss(), 1), (F.l1_loss, 4), (lambda z, y: F.mse_loss(z, y), 4)]
)
def test_a_regression_has_a_loss_alone(tmp_path, loss, columns):
    y = Z[:, :columns]
    sim, out = run(nn.Linear(WIDTH, columns), y, loss)
    row = sim.history.last()
    assert math.isnan(row.accuracy) and math.isnan(row.pooled_accuracy)
    assert row.loss == pytest.approx(float(loss(out, y)), rel=1e-12)
    assert len(sim.history.tested()) == 2
    text = run_table.markdown({"run": sim.history})
    assert "nan" not in text and f"{row.loss:.4g}" in text
    run_table.table({"run": sim.history, "again": sim.history})
    plots.curves({"run": sim.history}, tmp_path / "curves.png")
    sim.history.to_csv(tmp_path / "history.csv")
    assert math.isnan(History.from_csv(tmp_path / "history.csv").last().accuracy)
    with pytest.raises(ValueError, match="expected accuracies, found none"):
        sim.history.best()


def test_sequence_outputs_have_a_loss_alone():
    model = nn.Sequential(nn.Linear(WIDTH, 6), nn.Unflatten(1, (3, 2)))
    y = (Z[:, :3] > 0).long()
    sim, out = run(model, y, lambda z, t: F.cross_entropy(z.flatten(0, 1), t.flatten()))
    assert math.isnan(sim.history.last().accuracy)
    expected = F.cross_entropy(out.flatten(0, 1), y.flatten())
    assert sim.history.last().loss == pytest.approx(float(expected), rel=1e-12)


def test_metrics_by_name_and_of_ones_own():
    sim, _ = run(nn.Linear(WIDTH, 4), Z.argmax(1), "cross_entropy", metric="none")
    assert math.isnan(sim.history.last().accuracy)

    def top2(z, y):
        return (z.topk(2, dim=1).indices == y[:, None]).any(1)

    sim, out = run(nn.Linear(WIDTH, 4), Z.argmax(1), "cross_entropy", metric=top2)
    pairs = out.argsort(dim=1, descending=True)[:, :2].numpy()
    scores_agree(sim, np.mean([y in two for y, two in zip(Z.argmax(1), pairs, strict=True)]))


EACH = r"metric: expected how right each sample is, a tensor \[\d+\]; got float"


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("multilabel", "metric: 'multilabel' does not fit"),
        ("multi-class", "metric: .*multi-class"),
        (lambda z, y: 0.5, EACH),
        (lambda z, y: (z.argmax(1) == y).float().mean(), r"metric: expected .* got \[\]"),
    ],
)
def test_metrics_that_do_not_fit_are_named(metric, message):
    with pytest.raises(ValueError, match=message):
        run(nn.Linear(WIDTH, 4), Z.argmax(1), "cross_entropy", metric=metric)


def test_soft_targets_of_cross_entropy_are_read_by_argmax():
    soft = Z.softmax(1)
    right = metric_for("auto", nn.CrossEntropyLoss(), Z, soft)(Z.flip(1), soft)
    assert torch.equal(right, Z.flip(1).argmax(1) == soft.argmax(1))
