"""Evaluation before round 1 and after: what fails in it is named, what draws in it is keyed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedfast import FederatedData, Simulation

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
    ("other", "says"),
    [
        (wrong, "in evaluation mode .RuntimeError: "),
        (fails_on_many, "in evaluation mode .RuntimeError: "),
        (lambda x: (x, x), r"expected outputs \[\d+, ...\] in evaluation mode; got tuple"),
        (lambda x: x.mean(), r"expected outputs \[\d+, ...\] in evaluation mode; got \[\]"),
    ],
)
@pytest.mark.parametrize("loss", ["cross_entropy", lambda z, y: F.cross_entropy(z, y)])
def test_a_model_that_fails_in_evaluation_alone_is_named(other, says, loss):
    with pytest.raises(ValueError, match=f"^model: .*{says}"):
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
