"""Evaluation by a layer program: what the module itself computes in evaluation mode."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fedfast
from fedfast.data import Normalize, Samples
from fedfast.models import build
from fedfast.module_evaluator import ModuleEvaluator
from fedfast.programs import trace
from fedfast.programs.evaluator import SLICES, WIDTH, ProgramEvaluator
from fedfast.programs.records import Reshape
from fedfast.programs.workspace import places, sizes

WIDE = torch.float64


def images(n: int, *shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=g), torch.randint(4, (n,), generator=g)


def simulate(module: nn.Module, x: torch.Tensor, y: torch.Tensor, **settings):
    settings = dict(rounds=1, dtype=WIDE, threads=1, algorithm="fedavg") | settings
    clients = fedfast.FederatedData.from_arrays([x[:6], x[6:9]], [y[:6], y[6:9]])
    return fedfast.Simulation(module, clients, **settings)


def expected(sim, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    with torch.no_grad():
        logits = sim.model().eval()(x)
    return float((logits.argmax(1) == y).double().mean()), float(F.cross_entropy(logits, y))


class Residual(nn.Module):
    """Two readers of one value, a layer used twice, dropout of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(4 * 3 * 3, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.norm(self.body(torch.tanh(self.body(x))))
        x = F.dropout(F.max_pool2d(x, 2), 0.4, training=self.training)
        return F.log_softmax(self.head(self.drop(x.flatten(1))), dim=1)


def lenet() -> nn.Module:
    return build("lenet", input_shape=(1, 16, 16), classes=4, channels=(2, 3), hidden=(8,))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), (6,)),
        (lenet, (1, 16, 16)),
        (Residual, (2, 6, 6)),
    ],
)
@settings(max_examples=12, deadline=None)
@given(n=st.integers(9, 30) | st.integers(SLICES * WIDTH - 2, SLICES * WIDTH + 70))
def test_it_computes_what_the_module_does(make, shape, n):
    x, y = images(n, *shape, seed=n)
    sim = simulate(make(), x, y, test=(x, y), lr=0.5)
    assert isinstance(sim._components.evaluator(), ProgramEvaluator)
    row = next(iter(sim))
    accuracy, loss = expected(sim, x.double(), y)
    assert row.accuracy == accuracy and row.loss == pytest.approx(loss, rel=1e-12)


def test_float32_and_bytes_are_evaluated_as_they_are_trained():
    x, y = images(700, 3, 12, 12)
    x = (x * 40 + 120).clamp(0, 255).to(torch.uint8)
    tones = Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    bank = Samples(x, y, normalize=tones)
    model = build("lenet", input_shape=(3, 12, 12), classes=4, channels=(4, 4), kernel=3)
    data = fedfast.FederatedData.from_index(bank, [list(range(9)), list(range(9, 20))])
    sim = fedfast.Simulation(model, data, test=bank, rounds=1, threads=2)
    accuracy, loss = sim.evaluate()
    inputs = (x.float() / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.3, 0.4]
    ).view(3, 1, 1)
    figures = expected(sim, inputs, y)
    assert loss == pytest.approx(figures[1], rel=1e-5) and abs(accuracy - figures[0]) <= 2 / 700


def test_tokens_go_through_the_lstm():
    g = torch.Generator().manual_seed(1)
    x, y = torch.randint(12, (520, 5), generator=g), torch.randint(12, (520,), generator=g)
    model = build("lstm", input_shape=(5,), classes=12, embedding=3, hidden=4, layers=2)
    sim = simulate(model, x, y, test=(x, y))
    assert isinstance(sim._components.evaluator(), ProgramEvaluator)
    accuracy, loss = sim.evaluate()
    figures = expected(sim, x, y)
    assert accuracy == figures[0] and loss == pytest.approx(figures[1], rel=1e-12)


class AlwaysDrops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(F.dropout(x, 0.5))  # whatever the mode


@pytest.mark.parametrize(
    "module", [nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), AlwaysDrops()]
)
def test_other_modules_evaluate_themselves(module):
    x, y = images(40, 6)
    sim = simulate(module, x, y, test=(x, y))
    assert isinstance(sim._components.evaluator(), ModuleEvaluator)
    if isinstance(module, nn.Sequential):
        assert sim.evaluate() == pytest.approx(expected(sim, x.double(), y), rel=1e-12)


def test_values_share_memory_only_where_nobody_reads_them_any_more():
    """Replayed with names for numbers: every reader finds what the writer left."""
    module, x = build("resnet18-gn", input_shape=(3, 32, 32), classes=4), torch.zeros(2, 3, 32, 32)
    program, _ = trace(module, x, training=False)
    where = places(program, reuse=True)
    held: dict[int, int] = {}
    for record in program.records:
        if isinstance(record, Reshape):
            continue
        for v in map(program.root, record.inputs):
            assert v == 0 or held[where[v]] == v
            assert v == 0 or where[v] != where[record.output]
        held[where[record.output]] = record.output
    assert held[where[program.root(program.output)]] == program.root(program.output)
    # Two images of the first stage and one in the making, of 64 x 32 x 32 each.
    assert sizes(program, where) == [64 * 32 * 32] * 3
    assert len(set(places(program, reuse=False).values())) == len(where)


def test_an_evaluator_keeps_nothing_of_the_last_model():
    """A personal model is evaluated after another: weights and samples are its own."""
    x, y = images(2 * WIDTH + 3, 6)
    model = nn.Linear(6, 4).double()
    sim = simulate(model, x, y)
    evaluator, layout = sim._components.evaluator(), sim.layout
    others = [nn.Linear(6, 4).double() for _ in range(3)]
    rows = [layout.flatten(other, torch.device("cpu")) for other in others]
    parts = [x[:1].double(), x.double(), x[1 : WIDTH + 2].double()]
    labels = [other(part).argmax(1) for other, part in zip(others, parts, strict=True)]
    labels[1][WIDTH] = (labels[1][WIDTH] + 1) % 4  # one sample whose prediction is wrong
    jobs = [
        (lambda row=row: row, Samples(part, y))
        for row, part, y in zip(rows, parts, labels, strict=True)
    ]
    for n, (found, part) in enumerate(zip(evaluator.correct(jobs), parts, strict=True)):
        wrong = [WIDTH] if n == 1 else []
        assert len(found) == len(part) and (found == 0).nonzero()[:, 0].tolist() == wrong
