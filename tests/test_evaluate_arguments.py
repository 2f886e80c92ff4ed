"""Evaluation before round 1 and after: what fails in it is named, what draws in it is keyed."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedfast import FederatedData, Simulation
from fedfast.models import Stochastic

X = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


class Opaque(nn.Linear):
    """A module that no program can be traced of."""

    def forward(self, x):
        return super().forward(x) if float(x.detach().abs().sum()) >= 0 else x


class EvaluatesAs(nn.Linear):
    """A linear layer that does something else in evaluation mode."""

    def __init__(self, other):
        super().__init__(5, 3)
        self.other = other

    def forward(self, x):
        return super().forward(x) if self.training else self.other(x)


def simulation(model, loss="cross_entropy", **more):
    data = FederatedData.from_arrays([X[:30], X[30:]], [Y[:30], Y[30:]])
    args = dict(rounds=2, participation=1.0, batch_size=10, test=(X, Y)) | more
    return Simulation(model, data, loss=loss, **args)


def wrong(x):
    return x @ torch.ones(7, 3)


def fails_on_many(x):
    return x[:, :3] if len(x) < 3 else x.view(2, 7)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (wrong, "in evaluation mode .RuntimeError: "),
        (fails_on_many, "in evaluation mode .RuntimeError: "),
        (lambda x: (x, x), r"expected outputs \[\d+, ...\] in evaluation mode; got tuple"),
        (lambda x: x.mean(), r"expected outputs \[\d+, ...\] in evaluation mode; got \[\]"),
    ],
)
@pytest.mark.parametrize("loss", ["cross_entropy", lambda z, y: F.cross_entropy(z, y)])
def test_a_model_that_fails_in_evaluation_alone_is_named(other, message, loss):
    with pytest.raises(ValueError, match=f"^model: .*{message}"):
        simulation(EvaluatesAs(other), loss)


@pytest.mark.parametrize("model", [nn.Linear(5, 3), Opaque(5, 3)])
def test_a_loss_that_draws_is_keyed_in_evaluation(model):
    def noisy(z, y):
        return F.cross_entropy(z + torch.randn_like(z), y)

    def figures(seed, mine):
        torch.manual_seed(mine)
        before = torch.get_rng_state()
        sim = simulation(model, noisy, seed=seed)
        sim.run(progress=False)
        found = [sim.history.last().loss, sim.evaluate()[1], sim.evaluate()[1]]
        assert torch.equal(torch.get_rng_state(), before)
        assert len(set(found)) == 1
        return found[0]

    assert figures(0, 1) == figures(0, 2)


@pytest.mark.parametrize(("columns", "y"), [(4, (X[:, :4] > 0).float()), (1, (X[:, 0] > 0).long())])
def test_an_algorithm_of_classes_refuses_other_targets(columns, y):
    model = Stochastic(nn.Linear(5, 6), nn.Linear(3, columns))
    data = FederatedData.from_arrays([X], [y])
    with pytest.raises(ValueError, match="^algorithm: 'fedcr' keeps a distribution per class"):
        Simulation(model, data, "fedcr", loss=nn.BCEWithLogitsLoss(), rounds=1)


def test_targets_that_are_lists_of_classes_have_no_accuracy():
    y = torch.tensor([[2, 0, -1], [1, -1, -1]]).repeat(30, 1)
    data = FederatedData.from_arrays([X], [y])
    sim = Simulation(nn.Linear(5, 3), data, loss=nn.MultiLabelMarginLoss(), test=(X, y))
    accuracy, loss = sim.evaluate()
    assert math.isnan(accuracy)
    assert loss == pytest.approx(nn.MultiLabelMarginLoss()(sim.model()(X), y).item(), rel=1e-6)


def test_a_margin_of_zero_targets_is_refused():
    data = FederatedData.from_arrays([X], [(X[:, 0] > 0).long()])
    with pytest.raises(ValueError, match="^clients: expected targets -1 and 1 for this loss"):
        Simulation(nn.Linear(5, 1), data, loss=nn.SoftMarginLoss())
