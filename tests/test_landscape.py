"""Slices of the loss: where they lie, and that their figures are the models' own."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedfast.data import Samples
from fedfast.landscape import (
    ModelLosses,
    filter_normalised,
    line_between,
    plane_through,
    random_plane,
    surface,
)
from fedfast.layout import FlatLayout
from fedfast.models import build


def images(n: int = 70, side: int = 12, classes: int = 4) -> Samples:
    g = torch.Generator().manual_seed(3)
    x = torch.randn(n, 1, side, side, generator=g)
    return Samples(x, torch.randint(classes, (n,), generator=g))


def cnn() -> nn.Module:
    return build("cnn", input_shape=(1, 12, 12), classes=4, channels=(3, 5), hidden=(9,))


def norms() -> nn.Module:
    """Batch normalisation whose statistics are not those of a new module."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 4)
    )
    net.train()(torch.randn(30, 1, 12, 12) * 2 + 1)
    return net


class Attention(nn.Module):
    """No layer program."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.out = nn.MultiheadAttention(12, 2, batch_first=True), nn.Linear(12, 4)

    def forward(self, x):
        x = x[:, 0]
        return self.out(self.heads(x, x, x, need_weights=False)[0].mean(1))


def others(row: torch.Tensor, layout: FlatLayout, n: int) -> list[torch.Tensor]:
    """Models nearby; their running statistics differ too, variances upwards."""
    g = torch.Generator().manual_seed(9)
    return [row + 0.1 * torch.rand(len(row), generator=g) * (row != 0) for _ in range(n)]


def direct(module: nn.Module, layout: FlatLayout, row: torch.Tensor, s: Samples):
    """(accuracy, loss) of the module with the row's values written into it, in float64."""
    layout.write(row, module)
    with torch.no_grad():
        z = module.double().eval()(s.x.double())
        found = float((z.argmax(1) == s.y).double().mean()), float(F.cross_entropy(z, s.y))
    module.float()
    return found


@pytest.mark.parametrize("make", [cnn, norms, Attention])
@pytest.mark.parametrize("kind", ["random", "models"])
def test_a_surface_is_what_the_module_computes(make, kind):
    module, samples = make(), images()
    layout = FlatLayout.of(module)
    row = layout.flatten(module)
    losses = ModelLosses(module, layout, samples, models=3)
    assert losses.batched is (make is cnn)  # statistics that models bring along are the module's
    if kind == "random":
        plane = random_plane(layout, row, seed=1)
    else:
        one, two = others(row, layout, 2)
        plane = plane_through(layout, {"global": row, "0": one, "1": two})
    found = surface(plane, losses, grid=5, reach=0.5)
    for i, a in enumerate(found.axes[0].tolist()):
        for j, b in enumerate(found.axes[1].tolist()):
            w = plane.origin.double() + a * plane.axes[0].double() + b * plane.axes[1].double()
            for slot in layout.slots:
                if slot.name.endswith("running_var"):
                    w[slot.offset : slot.stop].clamp_(min=0)
            accuracy, loss = direct(make(), layout, w.float(), samples)
            assert float(found.loss[i, j]) == pytest.approx(loss, rel=1e-5, abs=1e-5)
            assert abs(float(found.accuracy[i, j]) - accuracy) < 1.5 / len(samples)


@pytest.mark.parametrize("make", [cnn, norms])
def test_the_plane_goes_through_the_models(make):
    module, samples = make(), images()
    layout = FlatLayout.of(module)
    row = layout.flatten(module)
    models = dict(zip(("global", "3", "7"), (row, *others(row, layout, 2)), strict=True))
    plane, losses = plane_through(layout, models), ModelLosses(module, layout, samples)
    axes = plane.axes[:, : layout.trained].double()
    assert (axes @ axes.T - torch.eye(2)).abs().max() < 1e-6
    for name, own in models.items():
        there = plane.row(*plane.marks[name])
        assert (there - own).abs().max() < 1e-6
        for ours, theirs in zip(losses(there[None]), losses(own[None]), strict=True):
            assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_a_line_goes_from_one_model_to_the_other():
    module = cnn()
    layout = FlatLayout.of(module)
    row = layout.flatten(module)
    (other,) = others(row, layout, 1)
    line = line_between(layout, {"a": row, "b": other})
    assert torch.equal(line.row(0.0), row)
    assert (line.row(1.0) - other).abs().max() < 1e-7
    with pytest.raises(ValueError, match="a and b are the same"):
        line_between(layout, {"a": row, "b": row})
    with pytest.raises(ValueError, match="one line"):
        plane_through(layout, {"a": row, "b": other, "c": row + 2 * (other - row)})


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), number=st.integers(0, 3))
def test_every_filter_is_as_long_as_the_models(seed, number):
    module = norms()
    layout = FlatLayout.of(module)
    row = layout.flatten(module)
    found = layout.views(filter_normalised(layout, row, seed, number))
    for name, p in module.state_dict().items():
        if name not in found:
            continue
        if p.ndim < 2:
            assert not found[name].any()
            continue
        for filter_, direction in zip(p, found[name], strict=True):
            assert float(direction.norm()) == pytest.approx(float(filter_.norm()), rel=1e-5)


def test_directions_differ_by_seed_and_number():
    module = cnn()
    layout = FlatLayout.of(module)
    row = layout.flatten(module)
    drawn = [filter_normalised(layout, row, seed, n) for seed, n in ((0, 0), (0, 1), (1, 0))]
    for i, a in enumerate(drawn):
        for b in drawn[:i]:
            assert abs(float(a @ b) / float(a.norm() * b.norm())) < 0.3
    assert torch.equal(drawn[0], filter_normalised(layout, row, 0, 0))


@pytest.mark.parametrize("make", [cnn, Attention])
def test_models_at_once_and_threads_leave_no_trace(make):
    module, samples = make(), images(130)
    layout = FlatLayout.of(module)
    plane = random_plane(layout, layout.flatten(module), seed=2)
    found = [
        surface(plane, ModelLosses(module, layout, samples, models=k, threads=t), grid=3)
        for k, t in ((1, 1), (2, 2), (9, 1), (4, 2))
    ]
    for other in found[1:]:
        assert torch.equal(found[0].loss, other.loss)
        assert torch.equal(found[0].accuracy, other.accuracy)


def test_of_a_quadratic_the_surface_is_known():
    """One linear unit under the squared error: the loss is a quadratic form of the coordinates."""
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, n, generator=g, dtype=torch.float64) for n in (6, 1))
    module = nn.Linear(6, 1, bias=False).double()
    layout = FlatLayout.of(module)
    row = layout.flatten(module)
    plane = random_plane(layout, row, seed=5)
    losses = ModelLosses(module, layout, (x, y), loss=F.mse_loss)
    found = surface(plane, losses, grid=4, reach=2.0)
    w, u, v = (t[:6] for t in (row, *plane.axes))
    e, p, q = x @ w - y[:, 0], x @ u, x @ v
    a, b = torch.meshgrid(*found.axes, indexing="ij")
    exact = e @ e + a**2 * (p @ p) + b**2 * (q @ q)
    exact = (exact + 2 * (a * (e @ p) + b * (e @ q) + a * b * (p @ q))) / 40
    assert (found.loss - exact).abs().max() < 1e-12


@pytest.mark.parametrize("options", [{"grid": 1}, {"reach": 0.0}])
def test_what_cannot_be_evaluated_is_said(options):
    module = cnn()
    layout = FlatLayout.of(module)
    plane = random_plane(layout, layout.flatten(module), dimensions=1)
    with pytest.raises(ValueError, match=next(iter(options))):
        surface(plane, ModelLosses(module, layout, images()), **options)
    with pytest.raises(ValueError, match="dimensions"):
        random_plane(layout, layout.flatten(module), dimensions=3)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_around_a_model_of_zeros_the_loss_is_constant(dimensions):
    module, samples = cnn(), images(n=9)
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    layout = FlatLayout.of(module)
    plane = random_plane(layout, layout.flatten(module), dimensions)
    assert plane.marks == {"origin": (0.0,) * dimensions}
    found = surface(plane, ModelLosses(module, layout, samples), grid=2)
    torch.testing.assert_close(found.loss, torch.full_like(found.loss, math.log(4)))


def test_directions_that_are_parallel_have_marks():
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    layout = FlatLayout.of(module)
    row = layout.flatten(module)
    plane = random_plane(layout, row, 2, 1, {"here": row, "there": 2 * row})
    axes = plane.axes[:, : layout.trained]
    there = torch.tensor(plane.marks["there"], dtype=torch.float64) @ axes
    expected = torch.linalg.lstsq(axes.T, row[: layout.trained, None], driver="gelsd").solution
    assert plane.marks["here"] == (0.0, 0.0)
    torch.testing.assert_close(there, (axes.T @ expected)[:, 0])


def test_models_that_are_not_finite_span_nothing():
    module = cnn()
    layout = FlatLayout.of(module)
    row = layout.flatten(module)
    models = {"one": row, "two": row * math.nan, "three": 2 * row}
    with pytest.raises(ValueError, match="models: expected finite ones; two is not"):
        plane_through(layout, models)
    with pytest.raises(ValueError, match="two is not"):
        line_between(layout, {"one": row, "two": row * math.inf})
    around = random_plane(layout, models["two"])
    assert all(map(math.isnan, around.marks["origin"]))


def test_no_bit_of_a_plane_depends_on_the_threads():
    module = nn.Sequential(nn.Flatten(), nn.Linear(400, 1000))
    layout = FlatLayout.of(module)
    row = layout.flatten(module)
    g = torch.Generator().manual_seed(4)
    models = {name: row + torch.randn(len(row), generator=g) for name in "abc"}
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        plane = plane_through(layout, models)
        found.append((plane.axes, plane.marks, random_plane(layout, row, marks=models).marks))
    torch.set_num_threads(before)
    for axes, *marks in found[1:]:
        assert torch.equal(axes, found[0][0]) and marks == list(found[0][1:])
