"""The resident MLP, its CUDA source run on the host: bit by bit a NumPy program, and autograd."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import host_cuda
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from resident_numpy import Client
from torch import Tensor, nn

from fedfast.batches import ChunkBatches, Packing
from fedfast.executor import ClipBound, Fold, LocalStep, SamAscent
from fedfast.input_pipeline import SampleSource
from fedfast.layout import FlatLayout
from fedfast.programs import resident, trace

EPS = 1e-12
SGD = dict(alpha=-0.3, beta=0.98)
FORMS = {
    "sgd": {},
    "sam": dict(rho=0.2),
    "momentum": dict(momentum=0.9),
    "nesterov": dict(momentum=0.7, nesterov=True),
    "clip": dict(clip=0.3),
    "sam, momentum, clip": dict(rho=0.1, momentum=0.9, clip=0.2),
}


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    return host_cuda.module(tmp_path_factory.getbasetemp().parent)


@dataclass
class Case:
    """K clients of an MLP, their batches, and how they descend."""

    inputs: int
    hidden: int
    classes: int
    width: int
    steps: list[int]
    bytes: bool = False
    seed: int = 0
    middle: int = 0

    def __post_init__(self):
        torch.manual_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        widths = [self.inputs, self.hidden, *([self.middle] if self.middle else []), self.classes]
        layers = [f for n, m in pairwise(widths) for f in (nn.Linear(n, m), nn.ReLU())]
        self.module = nn.Sequential(*layers[:-1])
        self.layout = FlatLayout.of(self.module)
        self.start = self.layout.flatten(self.module)
        n = 40
        self.x = torch.randn(n, self.inputs)
        if self.bytes:
            self.x = torch.randint(0, 256, (n, self.inputs), dtype=torch.uint8)
        self.y = torch.randint(0, self.classes, (n,))
        self.scale, self.shift = torch.tensor([0.01]), torch.tensor([-0.7])
        packing = Packing.of(np.array(self.steps))
        rows = torch.from_numpy(rng.integers(0, n, (packing.lines, self.width)))
        count = torch.full((packing.lines,), self.width, dtype=torch.int32)
        last = packing.step == np.array(self.steps)[packing.client] - 1
        few = rng.integers(1, self.width + 1, packing.lines)
        count[last] = torch.from_numpy(few[last]).int()  # a client's last batch is smaller
        self.batches = ChunkBatches(0, np.arange(len(self.steps)), rows, count, packing)

    @property
    def seen(self) -> Tensor:
        return self.x.float() * self.scale + self.shift if self.bytes else self.x

    def batches_of(self, k):
        for line in np.flatnonzero(self.batches.packing.client == k):
            rows = self.batches.rows[line, : self.batches.count[line]]
            yield self.seen[rows], self.y[rows]

    def source(self):
        transform = dict(scale=self.scale, shift=self.shift) if self.bytes else {}
        return SampleSource(self.x, self.y, torch.float32, "reference", transform)

    def mlp(self, module):
        program, _ = trace(self.module, torch.zeros(2, self.inputs))
        shape = resident.shape_of(program, self.layout)
        return resident.ResidentMLP(module, shape, self.width)

    def descend(self, module, order=0, addend=None, **how):
        """(models [K, S], losses [2, K])."""
        rest = SGD | how
        w = self.layout.bank(len(self.steps)).fill_(7.0)
        bound = ClipBound(rest["clip"], w, EPS) if "clip" in rest else None
        options = {name: rest[name] for name in ("momentum", "nesterov") if name in rest}
        base = self.start.expand_as(w)
        fold = Fold(rest["alpha"], rest["beta"], base, bound, addend, **options)
        ascent = SamAscent(rest["rho"], EPS, w, w) if "rho" in rest else None
        ordered = Ordered(module, order)
        step = LocalStep(ascent=ascent, fold=fold)
        return w, self.mlp(ordered).descend(step, w, self.source(), self.batches)

    def rows(self, tensors):
        return torch.cat([torch.as_tensor(t).flatten() for t in tensors])

    def trained(self, w):
        """The models without padding, [K, P]."""
        return torch.stack([self.rows(self.layout.views(row).values()) for row in w])


@dataclass
class Ordered:
    """The module, its threads shuffled between barriers."""

    module: object
    order: int

    @property
    def device(self):
        return self.module.device

    def plan(self, given):
        return self.module.plan(given)

    def clusters(self, given):
        return self.module.clusters(given)

    def train(self, given, stream):
        self.module.train(given, self.order)


def by_numpy(case, module, k, rho=None, clip=None, momentum=0.0, nesterov=False, **sgd):
    """(tensors, losses [2]) of client k."""
    norms = rho is not None or clip is not None
    shape = case.mlp(module).shape
    plan = module.plan(shape.given(case.width, norms, bool(momentum)))
    tensors = [t.detach().numpy().copy() for t in case.module.parameters()]
    client, losses = Client(tensors, plan["blocks"]), np.zeros(2)
    bound = None if clip is None else (clip, EPS)
    for x, y in case.batches_of(k):
        how = dict(rho=rho, eps=EPS, clip=bound, momentum=momentum, nesterov=nesterov)
        loss = float(client.step(x.numpy(), y.numpy(), **(SGD | sgd), **how))
        losses += loss * len(y), loss
    return client.tensors, losses


def by_autograd(
    case, k, alpha, beta, rho=None, clip=None, momentum=0.0, nesterov=False, addend=None
):
    """(tensors, losses [2]) of client k in float64: the definitions, step by step."""
    w = [p.detach().double().requires_grad_() for p in case.module.parameters()]
    velocity, losses = [torch.zeros_like(p) for p in w], torch.zeros(2, dtype=torch.float64)

    def gradient(at, x, y):
        h = x.double()
        for weight, bias in zip(at[:-2:2], at[1:-2:2], strict=True):
            h = F.relu(h @ weight.T + bias)
        loss = F.cross_entropy(h @ at[-2].T + at[-1], y)
        return loss.detach(), list(torch.autograd.grad(loss, at))

    for x, y in case.batches_of(k):
        loss, g = gradient(w, x, y)
        losses += torch.stack([loss * len(y), loss])
        if rho is not None:
            reach = rho / (case.rows(g).norm() + EPS)
            _, g = gradient(
                [(p + reach * q).detach().requires_grad_() for p, q in zip(w, g, strict=True)], x, y
            )
        if clip is not None:
            g = [q * min(1.0, clip / (case.rows(g).norm() + EPS)) for q in g]
        if addend is not None:
            g = [q + a for q, a in zip(g, addend, strict=True)]
        for p, v, q in zip(w, velocity, g, strict=True):
            move = alpha * q + (beta - 1) * p.data
            v.mul_(momentum).add_(move)
            p.data += momentum * v + move if nesterov else v
    return [p.detach() for p in w], losses


SIZES = {  # inputs, hidden, classes, batch, second hidden layer
    "small": (5, 3, 2, 4, 0),
    "one sample": (8, 9, 4, 1, 0),
    "odd": (33, 17, 3, 7, 0),
    "many classes": (20, 6, 35, 3, 0),
    "mnist": (784, 200, 10, 10, 0),
    "two layers": (9, 7, 3, 5, 6),
    "two layers, quickstart": (64, 64, 10, 10, 64),
    "two layers, four blocks": (700, 130, 10, 6, 130),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SIZES)
def test_every_bit_is_that_of_numpy(built, name, form):
    *sizes, middle = SIZES[name]
    case = Case(*sizes, [2, 1] if sizes[0] > 500 else [3, 3, 1], middle=middle)
    w, losses = case.descend(built, **FORMS[form])
    for k in range(len(case.steps)):
        tensors, total = by_numpy(case, built, k, **FORMS[form])
        expected = case.rows(tensors)
        assert torch.equal(case.trained(w)[k], expected)
        assert losses[:, k].numpy() == pytest.approx(total, rel=1e-14)


@pytest.mark.parametrize("bytes", [False, True], ids=["floats", "bytes"])
@pytest.mark.parametrize("middle", [0, 11])
@pytest.mark.parametrize("form", FORMS)
def test_it_is_autograds(built, form, middle, bytes):
    case = Case(30, 21, 5, 6, [4, 4, 2, 1], bytes, middle=middle)
    w, losses = case.descend(built, **FORMS[form])
    for k in range(len(case.steps)):
        tensors, total = by_autograd(case, k, **SGD, **FORMS[form])
        expected = case.rows(tensors)
        assert (case.trained(w)[k] - expected).norm() < 1e-6 * expected.norm()
        assert torch.allclose(losses[:, k], total, rtol=1e-6, atol=0)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    inputs=st.integers(1, 70),
    hidden=st.integers(1, 40),
    middle=st.integers(0, 30),
    classes=st.integers(1, 40),
    width=st.integers(1, 32),
    steps=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    form=st.sampled_from(sorted(FORMS)),
    bytes=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_size_is_autograds(built, steps, form, **sizes):
    case = Case(**sizes, steps=sorted(steps, reverse=True))
    w, losses = case.descend(built, **FORMS[form])
    for k in range(len(steps)):
        tensors, total = by_autograd(case, k, **SGD, **FORMS[form])
        expected = case.rows(tensors)
        assert (case.trained(w)[k] - expected).norm() < 2e-5 * expected.norm()
        assert torch.allclose(losses[:, k], total, rtol=1e-5, atol=1e-6)


def test_a_model_of_many_blocks_is_autograds(built):
    """Two, four and sixteen blocks, the last with fewer units, batches of several tiles."""
    many = (((300, 301, 10, 20), 4), ((64, 700, 7, 12), 2), ((784, 500, 10, 9), 16))
    for sizes, blocks in many:
        case = Case(*sizes, [1, 1])
        shape = case.mlp(built).shape
        assert built.plan(shape.given(case.width, True, False))["blocks"] == blocks
        w, _ = case.descend(built, rho=0.2)
        tensors, _ = by_autograd(case, 1, **SGD, rho=0.2)
        assert (case.trained(w)[1] - case.rows(tensors)).abs().max() < 1e-6


@pytest.mark.parametrize("shared", [False, True], ids=["own rows", "one row"])
@pytest.mark.parametrize("inputs, middle", [(12, 0), (13, 0), (12, 7)])
def test_what_corrects_the_gradient_joins_it(built, inputs, middle, shared):
    case = Case(inputs, 9, 4, 5, [3, 2], seed=3, middle=middle)
    rows = torch.randn(1 if shared else 2, case.layout.trained)
    addend = rows.expand(2, -1)
    w, _ = case.descend(built, addend=addend, rho=0.1)
    for k in range(2):
        own = list(case.layout.views(addend[k], trained_only=True).values())
        tensors, _ = by_autograd(case, k, **SGD, rho=0.1, addend=own)
        expected = case.rows(tensors)
        assert (case.trained(w)[k] - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("hidden, middle", [(50, 0), (300, 290)])
@pytest.mark.parametrize("form", FORMS)
def test_no_order_of_threads_shows(built, form, hidden, middle):
    case = Case(70, hidden, 10, 12, [2, 1], middle=middle)
    first = case.descend(built, **FORMS[form])
    for order in (1, 2, 3):
        again = case.descend(built, order, **FORMS[form])
        assert all(map(torch.equal, first, again))


def test_a_client_does_not_depend_on_its_company(built):
    whole = Case(40, 30, 6, 7, [4, 3, 1])
    w, losses = whole.descend(built, rho=0.3)
    for k, steps in enumerate(whole.steps):
        alone = Case(40, 30, 6, 7, [steps])
        lines = np.flatnonzero(whole.batches.packing.client == k)
        own = whole.batches.rows[lines], whole.batches.count[lines]
        packing = Packing.of(np.array([steps]))
        alone.batches = ChunkBatches(0, np.arange(1), *own, packing)
        mine, loss = alone.descend(built, rho=0.3)
        assert torch.equal(mine[0], w[k]) and torch.equal(loss[:, 0], losses[:, k])


def test_padding_of_rows_and_clients_without_steps_stay(built):
    case = Case(5, 3, 2, 4, [2, 0])
    w, losses = case.descend(built)
    held = torch.zeros(case.layout.stride, dtype=torch.bool)
    for slot in case.layout.slots:
        held[slot.offset : slot.stop] = True
    assert (w[0, ~held] == 7).all() and (w[1] == 7).all()
    assert losses[:, 1].tolist() == [0, 0]


@pytest.mark.parametrize("part", ["rows", "y"])
@pytest.mark.parametrize("value", [-1, 40])
def test_rows_and_labels_out_of_range_make_the_loss_nan(built, part, value):
    case = Case(5, 3, 2, 4, [1])
    row = case.batches.rows[0, 0]
    if part == "rows":
        case.batches.rows[0, 0] = value
    else:
        case.y[row] = value
    w, losses = case.descend(built)
    assert losses.isnan().all()


def test_what_does_not_fit_has_no_plan(built):
    mlp = resident.Shape(784, 2000, 10, 0, 0, 0, 0)
    assert built.plan(mlp.given(10, False, False)) is None
    assert resident.ResidentMLP(built, mlp, 10).forms == frozenset()
    with pytest.raises(ValueError, match="does not fit into a cluster's shared memory"):
        built.clusters(mlp.given(10, False, False))


@pytest.mark.parametrize(
    "width, blocks",
    [
        (1, (4, 4, 8, 8)),
        (10, (4, 4, 8, 8)),
        (16, (4, 8, 8, 8)),
        (20, (8, 8, 16, 16)),
        (32, (8, 8, 16, 16)),
        (50, (16, 0, 0, 0)),
    ],
)
def test_the_mlp_of_mnist_takes_the_blocks_of_the_page(built, width, blocks):
    """docs/gpu.md: SGD; SAM or a clip; momentum; both."""
    mlp = resident.Shape(784, 200, 10, 0, 0, 0, 0)
    forms = [(False, False), (True, False), (False, True), (True, True)]
    plans = [built.plan(mlp.given(width, *form)) for form in forms]
    assert tuple(plan["blocks"] if plan else 0 for plan in plans) == blocks
    assert all(plan["bytes"] <= 232_448 for plan in plans if plan)
