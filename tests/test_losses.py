"""Losses before training and over a test set, against torch on the whole set in float64."""

from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedfast import FederatedData, Simulation, evaluation, module_evaluator
from fedfast.module_evaluator import ModuleEvaluator
from fedfast.programs.evaluator import ProgramEvaluator

CE = F.cross_entropy
N, WIDTH, CLASSES = 1301, 5, 4
GEN = torch.Generator().manual_seed(0)
X = torch.randn(N, WIDTH, generator=GEN)
Y = (X @ torch.randn(WIDTH, CLASSES, generator=GEN)).argmax(1)
W = torch.tensor([0.1, 5.0, 1.0, 2.5])


class Opaque(nn.Module):
    """A module that no program can be traced of."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, CLASSES)
        self.seen = []

    def forward(self, x):
        self.seen.append(flags())
        return self.inner(x) if float(x.detach().abs().sum()) >= 0 else x


def flags():
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def simulation(loss, model=None, y=Y, test=None, parts=None, **more):
    data = FederatedData.from_arrays([X[:40], X[40:90]], [y[:40], y[40:90]], test=parts)
    args = dict(rounds=1, participation=1.0, batch_size=10, test=test or (X, y)) | more
    return Simulation(model or nn.Linear(WIDTH, CLASSES), data, loss=loss, **args)


WEIGHTED = [
    nn.CrossEntropyLoss(weight=W),
    nn.CrossEntropyLoss(weight=W, label_smoothing=0.1),
    nn.CrossEntropyLoss(ignore_index=1),
    nn.CrossEntropyLoss(weight=W, ignore_index=2),
    partial(CE, weight=W),
    partial(CE, ignore_index=0),
]


@pytest.mark.parametrize("loss", [*WEIGHTED, lambda z, y: CE(z, y, W.to(z.dtype))])
@pytest.mark.parametrize("model", [nn.Sequential(nn.Linear(WIDTH, CLASSES)), Opaque()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_test_loss_is_the_loss_of_the_whole_set(loss, model, dtype):
    sim = simulation(loss, model, dtype=dtype)
    expected_type = ModuleEvaluator if isinstance(model, Opaque) else ProgramEvaluator
    assert isinstance(sim._components.evaluator(), expected_type)
    own = sim.model().double().requires_grad_(False)
    expected = float(in_double(loss)(own(X.double()), Y))
    rel = 1e-5 if dtype is torch.float32 else 1e-12
    assert sim.evaluate()[1] == pytest.approx(expected, rel=rel)


def in_double(loss):
    if isinstance(loss, partial) and "weight" in loss.keywords:
        return partial(CE, weight=W.double())
    return deepcopy(loss).double() if isinstance(loss, nn.Module) else loss


@pytest.mark.parametrize("model", [nn.Sequential(nn.Linear(WIDTH, CLASSES)), Opaque()])
@pytest.mark.parametrize("told", [float, lambda value: value.view(1)], ids=["number", "[1]"])
def test_a_loss_may_be_a_number_where_nothing_is_differentiated(told, model):
    def loss(z, y):
        value = CE(z, y)
        return value if torch.is_grad_enabled() else told(value)

    sim = simulation(loss, model, dtype=torch.float64)
    expected = float(CE(sim.model().double().requires_grad_(False)(X.double()), Y))
    assert sim.evaluate()[1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", WEIGHTED)
def test_sets_too_large_to_keep_are_weighted_as_the_loss_weighs(loss, monkeypatch):
    sim = simulation(loss, dtype=torch.float64)
    whole = sim.evaluate()[1]
    monkeypatch.setattr(evaluation, "WHOLE", 0)
    assert sim.evaluate()[1] == pytest.approx(whole, rel=1e-12)


def test_plain_cross_entropy_stays_what_it_was():
    sim = simulation("cross_entropy", Opaque())
    own, size = sim.model(), module_evaluator.EVALUATION_BATCH
    with torch.no_grad():
        pairs = zip(X.split(size), Y.split(size), strict=True)
        parts = [float(CE(own(x), y)) * len(y) for x, y in pairs]
    assert sim.evaluate()[1] == pytest.approx(sum(parts) / N, rel=1e-12)


def test_the_users_loss_object_is_left_alone():
    loss = nn.CrossEntropyLoss(weight=W.clone())
    simulation(loss, dtype=torch.float64).run(progress=False)
    assert loss.weight.dtype == torch.float32 and torch.equal(loss.weight, W)


class Trained(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, z, y):
        return self.scale * CE(z, y)


def changes_outputs(z, y):
    return CE(z.mul_(2), y)


def changes_targets(z, y):
    value = CE(z, y)
    y.zero_()
    return value


CLASS = r"loss: .*class CrossEntropyLoss: give CrossEntropyLoss\(\)"
TENSOR = r"loss: .*tensor \[16\]: take its mean"
DTYPE = r"loss: it cannot take .*Perhaps lambda z, y: loss\(z, y.to\(z.dtype\)\)"


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (nn.CrossEntropyLoss, TypeError, CLASS),
        (["cross_entropy"], TypeError, "loss: expected 'cross_entropy' or a callable; got"),
        (None, TypeError, "loss: expected 'cross_entropy' or a callable; got None"),
        (nn.CrossEntropyLoss(reduction="sum"), ValueError, "loss: .*reduction='sum': use 'mean'"),
        (partial(CE, reduction="none"), ValueError, "loss: .*reduction='none'"),
        (lambda z, y: CE(z, y, reduction="sum"), ValueError, "loss: .*got a sum: .* 16 samples"),
        (lambda z, y: CE(z, y, reduction="none"), ValueError, TENSOR),
        (lambda z, y: (CE(z, y), z), TypeError, "loss: .*got tuple"),
        (lambda z, y: {"loss": CE(z, y)}, TypeError, "loss: .*got dict"),
        (lambda z, y: CE(z, y).item(), TypeError, "loss: .*got float"),
        (lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y), ValueError, DTYPE),
        (lambda z, y: None, TypeError, "loss: .*got NoneType"),
        (lambda z, y: CE(z.detach(), y), ValueError, "loss: .*without a gradient"),
        (lambda z, y: torch.ones((), requires_grad=True), ValueError, "loss: .*without a gradient"),
        (lambda z, y: CE(z, y) / 0, ValueError, "loss: .*got inf"),
        (lambda z: z.mean(), ValueError, "loss: it cannot take outputs .*positional argument"),
        (lambda z, y: F.mse_loss(z, y), ValueError, "loss: "),
        (changes_outputs, ValueError, "loss: expected its outputs left alone"),
        (changes_targets, ValueError, "loss: expected its targets left alone"),
        (Trained(), ValueError, "loss: .*parameters scale"),
    ],
)
def test_a_loss_that_does_not_hold_is_named_before_round_one(loss, error, message):
    with pytest.raises(error, match=message):
        simulation(loss)


@pytest.mark.parametrize(
    "loss", ["cross_entropy", CE, nn.CrossEntropyLoss(), lambda z, y: CE(z, y)]
)
def test_labels_out_of_range_are_reported_with_their_place(loss):
    with pytest.raises(ValueError, match="clients: label 4 .*4 outputs; labels count from 0"):
        simulation(loss, y=Y + 1)
    late = torch.where(torch.arange(N) == 1200, 7, Y)
    with pytest.raises(ValueError, match="^test: label 7 is out of range .* 4 outputs$"):
        simulation(loss, test=(X, late))
    parts = [(X[:3], Y[:3]), (X[:3], torch.tensor([0, 9, 1]))]
    with pytest.raises(ValueError, match=r"clients.test\[1\]: label 9 is out of range"):
        simulation(loss, parts=parts)
    with pytest.raises(ValueError, match="test: label 7 is out of range"):
        simulation(loss).evaluate((X, late))


def test_ignored_labels_may_be_out_of_range():
    y = torch.where(torch.arange(N) % 3 == 0, 255, Y)
    sim = simulation(nn.CrossEntropyLoss(ignore_index=255), y=y)
    expected = CE(sim.model()(X), y, ignore_index=255).item()
    assert sim.evaluate()[1] == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_draws_repeats_and_leaves_the_users_generator():
    def noisy(z, y):
        return CE(z + 0.1 * torch.randn_like(z), y)

    def run(seed):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        sim = simulation(noisy, model)
        sim.run(progress=False)
        assert torch.equal(torch.get_rng_state(), before)
        return sim.state_dict()

    model = Opaque()
    first, again = run(1), run(2)
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), nn.BCELoss()])
def test_binary_labels_that_count_from_one_are_refused(loss):
    model = nn.Sequential(nn.Linear(WIDTH, 1), nn.Sigmoid())
    with pytest.raises(ValueError, match="clients: expected targets from 0 to 1 .* got 1 to 2"):
        simulation(loss, model, y=1 + (Y > 1).long())


def test_mse_of_a_column_is_not_broadcast():
    column = Y.double()[:, None]
    for y in (column, Y):
        sim = simulation(nn.MSELoss(), nn.Linear(WIDTH, 1), y=y, dtype=torch.float64)
        expected = ((sim.model()(X.double()) - column) ** 2).mean().item()
        assert sim.evaluate()[1] == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="loss: they are of different shapes"):
        simulation(lambda z, y: F.mse_loss(z, y.to(z.dtype)), nn.Linear(WIDTH, 1))


@pytest.mark.parametrize(
    ("precision", "allowed"), [("fp32", False), ("tf32x3", False), ("tf32", True)]
)
@pytest.mark.parametrize("mine", [(True, True), (False, True), (True, False)])
def test_tf32_is_as_precision_has_it_and_the_users_flags_come_back(precision, allowed, mine):
    before = flags()
    model = Opaque()
    try:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = mine
        sim = simulation("cross_entropy", model, precision=precision, threads=1)
        executor = sim._engine.trainer.executor
        evaluates = sim._components.evaluator()._modules()
        for module in (*(r.module for r in executor._replicas()), *evaluates):
            module.seen = seen = []
            sim.evaluate() if module in evaluates else sim.run(progress=False)
            assert seen and set(seen) == {(allowed, allowed)}
        assert flags() == mine
        evaluates[0].inner = None
        with pytest.raises(TypeError):
            sim.evaluate()
        assert flags() == mine
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
