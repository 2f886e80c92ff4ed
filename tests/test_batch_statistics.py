"""Hessians through the statistics of batches, against explicit Hessians of torch in float64."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedfast.cli import main
from fedfast.data import Samples
from fedfast.layout import FlatLayout
from fedfast.metrics import Hessian
from fedfast.metrics.hessian import product_for
from fedfast.metrics.hessian.spectrum import NAME, of_rows
from fedfast.report.published_eigenvalues import _measured
from fedfast.runs import measured_rows
from fedfast.runs.few_samples import few
from fedfast.runs.models_of import open_run

WIDE, MODELS = torch.float64, 2


class Custom(nn.Module):
    """A norm of one's own, with the buffers that torch's have; it takes no mean away."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            var = x.square().mean(0)
            self.running_var.mul_(0.9).add_(0.1 * var.detach())
        else:
            var = self.running_var
        return x / (var + 1e-5).sqrt()


def dense() -> nn.Module:
    norm = nn.BatchNorm1d(4, eps=1e-12)
    return nn.Sequential(nn.Linear(5, 4), norm, nn.Tanh(), nn.Dropout(), nn.Linear(4, 3))


def images() -> nn.Module:
    body = nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2, momentum=None), nn.Softplus()
    return nn.Sequential(nn.Unflatten(1, (1, 3, 3)), *body, nn.Flatten(), nn.Linear(8, 3))


def untracked() -> nn.Module:
    """It keeps no running statistics, and takes those of batches in evaluation too."""
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    return nn.Sequential(nn.Linear(5, 4), norm, nn.Tanh(), nn.Linear(4, 3))


def custom() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4, bias=False), Custom(4), nn.Tanh(), nn.Linear(4, 3))


# name -> model, inputs, batch: of 11 samples
CASES = {
    "all at once": (dense, 5, 11),
    "batches": (dense, 5, 4),
    "images": (images, 9, 6),
    "custom": (custom, 5, 7),
    "untracked": (untracked, 5, 4),
}


class Problem:
    """Some models with a norm, samples of each, and what the mean over batches is."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(2)
        make, inputs, self.batch = CASES[name]
        self.module = make().to(WIDE)
        self.layout = FlatLayout.of(self.module)
        self.rows = self.layout.flatten(self.module).repeat(MODELS, 1)
        self.rows += 0.3 * torch.rand_like(self.rows)
        sizes = 11, 10
        self.samples = [
            Samples(torch.randn(n, inputs, dtype=WIDE), torch.randint(3, (n,))) for n in sizes
        ]
        self.explicit = cache(self._explicit)

    def loss(self, k: int, flat: Tensor) -> Tensor:
        """(1 / n) sum_b n_b loss_b, norms in training mode, written out; flat: parameters alone."""
        self.module.train()
        for part in self.module.modules():
            if isinstance(part, nn.Dropout):
                part.eval()
        shapes = {name: p.shape for name, p in self.module.named_parameters()}
        parts = flat.split([s.numel() for s in shapes.values()])
        held = {n: t.view(s) for (n, s), t in zip(shapes.items(), parts, strict=True)}
        own, total = self.samples[k], flat.new_zeros(())
        for x, y in zip(own.x.split(self.batch), own.y.split(self.batch), strict=True):
            outputs = torch.func.functional_call(self.module, held, (x,))
            total = total + F.cross_entropy(outputs, y, reduction="sum")
        return total / len(own)

    def at(self, row: Tensor) -> Tensor:
        """The parameters of a row without padding, in the order of the module."""
        views = self.layout.views(row, trained_only=True)
        return torch.cat([views[name].flatten() for name, _ in self.module.named_parameters()])

    def _explicit(self, k: int) -> Tensor:
        at = self.at(self.rows[k])
        return torch.autograd.functional.hessian(
            lambda flat: self.loss(k, flat), at, vectorize=True
        )


@pytest.fixture(scope="module", params=CASES)
def problem(request):
    return Problem(request.param)


def given(problem):
    return dict(rows=problem.rows, layout=problem.layout, batch_statistics=problem.batch)


def test_products_are_those_of_the_explicit_hessian(problem):
    how = problem.layout, "cross_entropy", problem.rows, problem.samples
    product = product_for(problem.module, *how, batch_statistics=problem.batch)
    v, before = torch.randn_like(problem.rows), problem.rows.clone()
    found = product(v)
    for k in range(MODELS):
        expected = problem.explicit(k) @ problem.at(v[k])
        torch.testing.assert_close(problem.at(found[k]), expected, rtol=1e-8, atol=1e-10)
    assert torch.equal(product(v), found)  # nothing has moved
    assert torch.equal(problem.rows, before)


def test_a_model_does_not_depend_on_the_others(problem):
    how = problem.module, problem.layout, "cross_entropy"
    v = torch.randn_like(problem.rows)
    whole = product_for(*how, problem.rows, problem.samples, batch_statistics=problem.batch)(v)
    for k in range(MODELS):
        own = problem.rows[k : k + 1], problem.samples[k]
        one = product_for(*how, *own, batch_statistics=problem.batch)(v[k : k + 1])
        assert torch.equal(one[0], whole[k])


def test_eigenvalues_and_trace(problem):
    hessian = Hessian(problem.module, problem.samples, **given(problem))
    values = hessian.eigenvalues(2, tol=1e-9).values
    trace = hessian.trace(100, method="hutchinson")
    for k in range(MODELS):
        expected = problem.explicit(k)
        largest = torch.linalg.eigvalsh(expected).flip(0)[:2]
        torch.testing.assert_close(values[k], largest, rtol=1e-7, atol=1e-9)
        assert abs(trace.values[k] - expected.trace()) < 5 * trace.errors[k]


def test_it_is_another_function_than_that_of_evaluation(problem):
    still = Hessian(problem.module, problem.samples, rows=problem.rows, layout=problem.layout)
    moving = Hessian(problem.module, problem.samples, **given(problem))
    a, b = (hessian.eigenvalues().values for hessian in (still, moving))
    # Without running statistics the batches differ: in evaluation all samples are one here.
    assert ((a - b).abs() > 1e-2 * a.abs()).all()


def test_weights_before_a_norm_only_turn():
    """The loss does not change with their length: H w = -g in this block, up to the norm's eps."""
    problem = Problem("all at once")
    row = problem.rows[0].clone()
    product = product_for(
        *(problem.module, problem.layout, "cross_entropy", row[None], problem.samples[0]),
        batch_statistics=problem.batch,
    )
    v = torch.zeros_like(row[None])
    for name in ("0.weight", "0.bias"):  # the mean takes the bias away
        problem.layout.views(v[0])[name].copy_(problem.layout.views(row)[name])
    found = problem.layout.views(product(v)[0])["0.weight"]
    at = problem.at(row).requires_grad_()
    (g,) = torch.autograd.grad(problem.loss(0, at), at)
    torch.testing.assert_close(found.flatten(), -g[: found.numel()], rtol=1e-6, atol=1e-9)
    assert g[: found.numel()].abs().max() > 1e-3


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (1, "batch_statistics: expected at least 2; got 1"),
        (5, "expected at least two samples in every batch; the last of 11 in batches of 5 is"),
    ],
)
def test_batches_without_statistics_are_refused(batch, told):
    problem = Problem("batches")
    with pytest.raises(ValueError, match=told):
        Hessian(problem.module, problem.samples[0], batch_statistics=batch)


def test_models_without_norms_are_refused():
    data = torch.randn(4, 5), torch.randint(3, (4,))
    module = nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3))
    with pytest.raises(
        ValueError, match="expected a model with batch normalisation; got a Sequential"
    ):
        Hessian(module, data, batch_statistics=2)
    with pytest.raises(TypeError, match="batch_statistics: expected an integer; got True"):
        Hessian(dense(), data, batch_statistics=True)


CONFIG = """\
data: {name: digits}
partition: {name: dirichlet, clients: 4, alpha: 1.0}
model: {name: "normnet:Net"}
algorithms: {fedavg: {}}
rounds: 1
threads: 1
drop_last: true
"""
MODULE = """\
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        norm = nn.BatchNorm1d(4)
        super().__init__(nn.Flatten(), nn.Linear(64, 4), norm, nn.ReLU(), nn.Linear(4, 10))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("norms")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "normnet.py").write_text(MODULE)
        (folder / "c.yaml").write_text(CONFIG)
        assert main(["run", "c.yaml", "--out", "run"]) == 0
        yield folder / "run"


def test_the_command_measures_what_the_class_does(run, capsys):
    given = ["hessian", str(run), "--samples", "60", "--format", "png"]
    assert main([*given, "--batch-statistics", "20", "--clients", "1"]) == 0
    assert "norms: by the statistics of batches of 20 samples" in capsys.readouterr().out
    found = of_rows(measured_rows.read(run, NAME))
    assert [one.batch_statistics for one in found] == [20, 20, 20]
    opened = open_run(run)
    train = few(opened.data.samples, 60, 0)
    expected = Hessian(opened.model(), train, batch_statistics=20).eigenvalues()
    assert found[0].values[0] == expected.values.item()
    # Published eigenvalues are of models in evaluation mode.
    assert _measured([run], "fedavg", True, "train") == []
    assert main(given) == 0
    (usual,) = of_rows(measured_rows.read(run, NAME))
    assert usual.batch_statistics is None and usual.values[0] != found[0].values[0]
    assert _measured([run], "fedavg", True, "train") == [usual.values[0]]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--batch-statistics", "1"], "batch_statistics: expected at least 2; got 1"),
        (
            ["--batch-statistics", "20", "--samples", "41"],
            "batch_statistics: expected at least two samples in every batch; the last of 41 in "
            "batches of 20 is alone",
        ),
    ],
)
def test_mistakes_are_told_before_the_work(run, flags, told, capsys, monkeypatch):
    monkeypatch.setattr(Hessian, "__init__", lambda *_, **__: pytest.fail("measured"))
    assert main(["hessian", str(run), *flags]) == 2
    assert capsys.readouterr().err == f"fedfast: {told}\n"
