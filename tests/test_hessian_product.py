"""Products with the Hessian against explicit Hessians of autograd, and what they promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from fedfast.kernels.threads import thread_count
from torch import Tensor, nn

from fedfast.data import Samples
from fedfast.layout import FlatLayout
from fedfast.metrics.hessian import product_for
from fedfast.metrics.hessian.module_product import ModuleProduct
from fedfast.metrics.hessian.program_product import ProgramProduct, elements_of_a_pass
from fedfast.metrics.hessian.slices import chunks_of, width_of

WIDE, MODELS = torch.float64, 3


class Residual(nn.Module):
    """Two readers of one value, a layer used twice, dropout, log-softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(4 * 3 * 3, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.norm(self.body(torch.tanh(self.body(x))))
        return F.log_softmax(self.head(self.drop(F.max_pool2d(x, 2).flatten(1))), dim=1)


class Tokens(nn.Module):
    """Two layers of LSTM over words; the word 0 has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(7, 2, padding_idx=0), nn.Linear(2, 4)
        self.lstm = nn.LSTM(2, 2, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.words(x))[0][:, -1])


def mlp(activation: nn.Module, frozen: tuple[str, ...] = (), tied: bool = False) -> nn.Module:
    layers = nn.Linear(5, 5), activation, nn.Linear(5, 5), activation, nn.Linear(5, 4)
    module = nn.Sequential(*layers)
    if tied:
        module[2].weight = module[0].weight
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    return module


def pooled() -> nn.Module:
    """Convolutions with max pooling in the same record, ReLU and tanh behind."""
    first = nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()
    second = nn.Conv2d(3, 4, 3, bias=False), nn.Tanh(), nn.AvgPool2d(2)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(4, 4))


def normalised() -> nn.Module:
    first = nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.LeakyReLU(), nn.MaxPool2d(3, 2, 1)
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(3, 4))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "relu": (lambda: mlp(nn.ReLU()), (5,)),
    "tanh, tied": (lambda: mlp(nn.Tanh(), tied=True), (5,)),
    "sigmoid": (lambda: mlp(nn.Sigmoid()), (5,)),
    "silu, frozen": (lambda: mlp(nn.SiLU(), ("0.weight", "0.bias", "2.weight")), (5,)),
    "gelu, norm": (lambda: nn.Sequential(mlp(nn.GELU()), nn.LayerNorm(4), nn.Linear(4, 4)), (5,)),
    "pooled": (pooled, (1, 8, 8)),
    "normalised": (normalised, (1, 9, 9)),
    "residual": (Residual, (2, 6, 6)),
    "tokens": (Tokens, ()),
}


class Problem:
    """Some models of one architecture, samples of each, and directions."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(1)
        make, shape = CASES[name]
        self.module = make().to(WIDE).eval()
        for norm in self.module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.normal_()
        self.layout = FlatLayout.of(self.module)
        self.rows = self.layout.flatten(self.module).repeat(MODELS, 1)
        for view in self.layout.views(self.rows).values():
            view += 0.1 * torch.rand_like(view)
        self.samples = [self._draw(5 + 4 * k, shape) for k in range(MODELS)]
        self.v = torch.randn_like(self.rows)
        self.expected = cache(self._expected)

    @staticmethod
    def _draw(n: int, shape: tuple[int, ...]) -> Samples:
        x = torch.randn(n, *shape, dtype=WIDE) if shape else torch.randint(7, (n, 3))
        return Samples(x, torch.randint(4, (n,)))

    def loss(self, row: Tensor, k: int) -> Tensor:
        """Mean loss of model k's samples at a row [S]; buffers are the model's own."""
        still = self.layout.tensors(self.rows[k])
        held = still | self.layout.views(row, trained_only=True)
        outputs = torch.func.functional_call(self.module, held, (self.samples[k].x,))
        return F.cross_entropy(outputs, self.samples[k].y)

    @property
    def learns(self) -> Tensor:
        """1 where a row has a trained parameter. [S]"""
        mask = torch.zeros_like(self.rows[0])
        for view in self.layout.views(mask, trained_only=True).values():
            view.fill_(1)
        return mask

    def _expected(self, k: int) -> Tensor:
        """`H v` by an explicit Hessian."""
        row = self.rows[k].clone().requires_grad_()
        (g,) = torch.autograd.grad(self.loss(row, k), row, create_graph=True)
        at = self.learns.nonzero()[:, 0]
        lines = [torch.autograd.grad(g[i], row, retain_graph=True)[0] for i in at]
        found = torch.zeros_like(self.rows[k])
        found[at] = torch.stack(lines)[:, at] @ self.v[k][at]
        return found

    def product(self, **options):
        given = self.module, self.layout, "cross_entropy", self.rows, self.samples
        return product_for(*given, **options)


@pytest.fixture(scope="module", params=CASES)
def problem(request: pytest.FixtureRequest) -> Problem:
    return Problem(request.param)


@pytest.mark.parametrize("options", [{}, dict(batch=4), dict(batch=4, memory=0)], ids=str)
def test_explicit_hessians(problem: Problem, options: dict[str, int]) -> None:
    product = problem.product(**options)
    assert isinstance(product, ProgramProduct)
    found = product(problem.v)
    torch.testing.assert_close(product(problem.v), found, rtol=0, atol=0)
    for k in range(MODELS):
        expected = problem.expected(k)
        assert (found[k] - expected).norm() <= 1e-9 * expected.norm() + 1e-14
        assert not found[k, problem.learns == 0].any()


@pytest.mark.parametrize("batch", [None, 4])
def test_the_module_itself(problem: Problem, batch: int | None) -> None:
    given = problem.module, problem.layout, F.cross_entropy, problem.rows, problem.samples
    found = ModuleProduct(*given, batch or 500)(problem.v)
    for k in range(MODELS):
        expected = problem.expected(k)
        assert (found[k] - expected).norm() <= 1e-9 * expected.norm() + 1e-14


@pytest.mark.parametrize("batch", [None, 4])
def test_company_and_threads_change_no_bit(problem: Problem, batch: int | None) -> None:
    with thread_count(2):
        together = problem.product(batch=batch)(problem.v)
    for k in range(MODELS):
        given = problem.module, problem.layout, "cross_entropy", problem.rows[k : k + 1]
        alone = product_for(*given, problem.samples[k], batch=batch)
        with thread_count(1):
            assert torch.equal(alone(problem.v[k : k + 1])[0], together[k])


@pytest.mark.parametrize("batch", [None, 4])
def test_only_products_that_are_wanted(problem: Problem, batch: int | None) -> None:
    product, active = problem.product(batch=batch), [False, True, True]
    expected, out = product(problem.v), torch.ones_like(problem.v)
    assert product(problem.v, out=out, active=active) is out
    assert torch.equal(out[1:], expected[1:]) and out.isfinite().all()
    given = problem.module, problem.layout, F.cross_entropy, problem.rows, problem.samples
    one = ModuleProduct(*given, batch or 500)
    found = one(problem.v, out=out, active=active)
    assert torch.equal(found[1:], one(problem.v)[1:]) and not found[0].any()


def test_float32_is_near_float64(problem: Problem) -> None:
    wide = problem.product(batch=4)(problem.v)
    module, layout = problem.module.float(), replace(problem.layout, dtype=torch.float32)
    try:
        samples = [s.to("cpu", torch.float32) for s in problem.samples]
        product = product_for(module, layout, "cross_entropy", problem.rows.float(), samples)
        found = product(problem.v.float())
    finally:
        problem.module.double()
    assert found.dtype == torch.float32
    assert (found - wide).norm() <= 1e-4 * wide.norm()


@pytest.mark.parametrize("name", ["tanh, tied", "gelu, norm"])
def test_differences_of_gradients(name: str) -> None:
    problem, step = Problem(name), 1e-5
    problem.v *= problem.learns
    found = problem.product()(problem.v)
    for k in range(MODELS):
        ends = [problem.rows[k] + sign * step * problem.v[k] for sign in (1, -1)]
        up, down = (torch.func.grad(problem.loss)(row, k) for row in ends)
        expected = problem.learns * (up - down) / (2 * step)
        assert (found[k] - expected).norm() <= 1e-6 * expected.norm()


def test_symmetric(problem: Problem) -> None:
    product, u = problem.product(), torch.randn_like(problem.v) * problem.learns
    v = problem.v * problem.learns
    left, right = (u * product(v)).sum(1), (v * product(u)).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


def test_memory_is_what_buffers_take(problem: Problem) -> None:
    product = problem.product(batch=8)
    assert isinstance(product, ProgramProduct)
    (found, _), *_ = product._passes
    held, program = found.first.workspace, found.given.program
    buffers = [*held.values.values(), *held.gradients.values(), held.spare, found.batch.x]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in buffers}
    rows = len(found.chunk.slices) * found.chunk.width
    saved = sum(record.saved_elements(program.shapes) for record in program.records)
    taken = sum(storages.values()) / rows / WIDE.itemsize + saved
    assert elements_of_a_pass(program) == pytest.approx(taken)


def test_a_loss_of_ones_own_is_the_modules() -> None:
    problem = Problem("relu")
    given = problem.module, problem.layout
    smooth = nn.CrossEntropyLoss(label_smoothing=0.1)
    product = product_for(*given, smooth, problem.rows, problem.samples, batch=4)
    assert isinstance(product, ModuleProduct)

    def loss(row: Tensor) -> Tensor:
        views = problem.layout.views(row)
        outputs = torch.func.functional_call(problem.module, views, (problem.samples[2].x,))
        return smooth(outputs, problem.samples[2].y)

    hessian = torch.autograd.functional.hessian(loss, problem.rows[2], vectorize=True)
    expected = problem.learns * (hessian @ (problem.learns * problem.v[2]))
    torch.testing.assert_close(product(problem.v)[2], expected, rtol=1e-9, atol=1e-12)


def test_shared_samples() -> None:
    problem = Problem("relu")
    given = problem.module, problem.layout, "cross_entropy", problem.rows
    shared = product_for(*given, problem.samples[1])(problem.v)
    each = product_for(*given, [problem.samples[1]] * MODELS)(problem.v)
    assert torch.equal(shared, each)


@pytest.mark.parametrize("counts", [[1], [1000], [7, 64, 65, 200], [64, 64, 64]])
@pytest.mark.parametrize("most", [1, 2, 100])
def test_slices_hold_every_sample_once_in_order(counts: list[int], most: int) -> None:
    chunks = chunks_of(counts, 64, most)
    for k, n in enumerate(counts):
        own = [s for chunk in chunks for s in chunk.slices if s.model == k]
        places = [i for s in own for i in range(s.start, s.start + s.count)]
        assert places == list(range(n))
    for chunk in chunks:
        assert len(chunk.slices) <= most
        assert {s.width for s in chunk.slices} == {chunk.width}
    assert all(n <= width_of(n, 999) <= max(8, n + 1, n + n // 16) for n in range(1, 999))
    assert len({width_of(n, 999) for n in range(1, 999)}) <= 96


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(rows=torch.zeros(2, 3)), "rows: expected"),
        (dict(samples=[]), "samples: expected one for each of 3 models; got 0"),
        (dict(loss="hinge"), "loss: expected 'cross_entropy' or a callable; got 'hinge'"),
        (dict(batch=0), "batch: expected an integer >= 1 or None; got 0"),
    ],
)
def test_mistakes(change: dict[str, object], said: str) -> None:
    problem = Problem("relu")
    given = dict(loss="cross_entropy", rows=problem.rows, samples=problem.samples) | change
    with pytest.raises(ValueError, match=said):
        product_for(problem.module, problem.layout, **given)


def test_other_vectors_are_refused() -> None:
    product = Problem("relu").product()
    with pytest.raises(ValueError, match="v: expected"):
        product(torch.zeros(1, 4, dtype=WIDE))
    with pytest.raises(TypeError, match="v: expected torch.float64"):
        product(torch.zeros(MODELS, product.stride))
