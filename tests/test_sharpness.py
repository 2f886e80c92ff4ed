"""Sharpness of K models against closed forms of quadratics and direct evaluation in NumPy."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedfast.layout import FlatLayout
from fedfast.metrics import (
    Loss,
    MeanLosses,
    adaptive_sharpness,
    flatness_distance,
    layer_sensitivity,
    layer_sharpness,
    sam_sharpness,
    surrogate_gap,
)
from fedfast.torch_settings import torch_threads

Case = tuple[nn.Module, FlatLayout, Tensor, list[tuple[Tensor, Tensor]]]


class Weights(nn.Module):
    """Outputs its two parameters, so that the loss alone decides."""

    def __init__(self, w: np.ndarray) -> None:
        super().__init__()
        self.w, self.u = (nn.Parameter(torch.from_numpy(part.copy())) for part in (w[:3], w[3:]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.w, self.u]).expand(len(x), -1)


def quadratic(w: np.ndarray, a: np.ndarray) -> MeanLosses:
    """`L(w) = w^T A w / 2`."""
    matrix = torch.from_numpy(a)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs @ matrix) * outputs).sum(1).mean() / 2

    data = torch.zeros(5, 1, dtype=torch.float64), torch.zeros(5, dtype=torch.int64)
    return MeanLosses(Weights(w), data, loss=loss, batch=2)


def positive_definite(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(5, 5))
    return rng.normal(size=5), root @ root.T + 0.1 * np.eye(5)


seeds, radii = st.integers(0, 10_000), st.floats(1e-3, 3)


@settings(max_examples=10, deadline=None)
@given(seeds, radii, st.floats(1e-3, 1))
def test_one_step_on_quadratics(seed: int, rho: float, eta: float) -> None:
    """`L(w + e) - L(w) = <g, e> + e^T A e / 2` with e written down."""
    w, a = positive_definite(seed)
    losses, g = quadratic(w, a), a @ w

    def rise(e: np.ndarray) -> float:
        return float(g @ e + e @ a @ e / 2)

    scale = np.abs(w) + eta
    parts = []
    for part in (slice(0, 3), slice(3, 5)):
        e = np.zeros(5)
        e[part] = rho * g[part] / np.linalg.norm(g[part])
        parts.append(rise(e))
    sam = rise(rho * g / np.linalg.norm(g))
    asam = rise(rho * scale**2 * g / np.linalg.norm(scale * g))
    assert losses.values(losses.rows).item() == pytest.approx(w @ a @ w / 2, rel=1e-9)
    assert sam_sharpness(losses, rho).item() == pytest.approx(sam, rel=1e-9)
    assert surrogate_gap(losses, rho).item() == pytest.approx(sam, rel=1e-9)
    assert adaptive_sharpness(losses, rho, eta).item() == pytest.approx(asam, rel=1e-9)
    assert layer_sharpness(losses, rho)[0].tolist() == pytest.approx(parts, rel=1e-9)


@settings(max_examples=6, deadline=None)
@given(seeds, radii)
def test_many_steps_come_to_the_largest_rise_in_the_ball(seed: int, rho: float) -> None:
    """Never above the maximum over the ball, which is on the sphere: A is positive definite.

    The maximum solves `(A - m) e = -g`, `|e| = rho` with m above A's eigenvalues; found by
    bisection of `|e|(m)`, which falls in m.
    """
    w, a = positive_definite(seed)
    g, (values, basis) = a @ w, np.linalg.eigh(a)
    coefficients = basis.T @ g
    low, high = values[-1], values[-1] + np.linalg.norm(g) / rho + 1
    for _ in range(200):
        middle = (low + high) / 2
        longer = np.linalg.norm(coefficients / (middle - values)) > rho
        low, high = (middle, high) if longer else (low, middle)
    e = basis @ (coefficients / (high - values))
    most, losses = float(g @ e + e @ a @ e / 2), quadratic(w, a)
    one, many = (sam_sharpness(losses, rho, n).item() for n in (1, 15))
    assert one <= most * (1 + 1e-7) and many <= most * (1 + 1e-7)
    assert many >= 0.5 * most


def test_two_steps_in_numpy() -> None:
    w, a = positive_definite(1)
    rho, e = 0.7, np.zeros(5)
    for _ in range(2):
        g = a @ (w + e)
        e = e + rho * g / np.linalg.norm(g)
        e *= min(1, rho / np.linalg.norm(e))
    expected = float((w + e) @ a @ (w + e) - w @ a @ w) / 2
    assert sam_sharpness(quadratic(w, a), rho, 2).item() == pytest.approx(expected, rel=1e-12)


def test_nothing_rises_at_a_zero_gradient() -> None:
    losses = quadratic(np.zeros(5), np.eye(5))
    for of in (sam_sharpness, adaptive_sharpness, surrogate_gap):
        assert of(losses, 0.1).tolist() == [0.0]
    assert layer_sharpness(losses, 0.1).tolist() == [[0.0, 0.0]]


def small(dtype: torch.dtype = torch.float64) -> Case:
    """Three MLPs, each with samples of its own, more than a batch of 5."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)
    layout = FlatLayout.of(model)
    rows = layout.bank(3)
    for view in layout.views(rows).values():
        view.copy_(torch.rand(view.shape) + 0.1)
    data = [(torch.randn(n, 4, dtype=dtype), torch.randint(3, (n,))) for n in (7, 12, 9)]
    return model, layout, rows, data


def loss_of(case: Case, k: int, loss: Loss, change: dict[str, Tensor] | None = None) -> float:
    """The mean loss of all samples in one pass, weights moved by `change`."""
    model, layout, rows, data = case
    layout.write(rows[k], model.eval())
    for name, parameter in model.named_parameters():
        if change is not None:
            parameter.data.add_(change[name])
    with torch.no_grad():
        return loss(model(data[k][0]), data[k][1]).item()


def direct(
    case: Case, k: int, rho: float, loss: Loss = F.cross_entropy
) -> tuple[float, float, list[float]]:
    """(SAM's, ASAM's, each tensor's) of model k, by backward() of one pass."""
    model, layout, rows, data = case
    layout.write(rows[k], model.eval())
    model.zero_grad()
    loss(model(data[k][0]), data[k][1]).backward()
    w = {n: p.detach().clone() for n, p in model.named_parameters()}
    g = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    def rise(change: dict[str, Tensor]) -> float:
        return loss_of(case, k, loss, change) - loss_of(case, k, loss)

    def length(of: dict[str, Tensor]) -> float:
        return float(np.linalg.norm(np.concatenate([v.numpy().ravel() for v in of.values()])))

    t = {n: v.abs() + 0.01 for n, v in w.items()}
    scaled = length({n: t[n] * g[n] for n in g})
    asam = rise({n: rho * t[n] ** 2 * g[n] / scaled for n in g})
    sam = rise({n: rho * v / length(g) for n, v in g.items()})
    each = [
        rise({n: rho * v / v.norm() if n == name else torch.zeros_like(v) for n, v in g.items()})
        for name in g
    ]
    return sam, asam, each


def test_models_against_direct_evaluation() -> None:
    """In batches of 5, where the reference takes all samples at once."""
    case = small()
    model, layout, rows, data = case
    losses = MeanLosses(model, data, rows=rows, layout=layout, batch=5)
    found = sam_sharpness(losses, 0.3), adaptive_sharpness(losses, 0.3)
    layers, values = layer_sharpness(losses, 0.3), losses.values(losses.rows)
    for k in range(3):
        sam, asam, each = direct(case, k, 0.3)
        assert values[k].item() == pytest.approx(loss_of(case, k, F.cross_entropy), rel=1e-12)
        assert found[0][k].item() == pytest.approx(sam, rel=1e-9)
        assert found[1][k].item() == pytest.approx(asam, rel=1e-9)
        assert layers[k].tolist() == pytest.approx(each, rel=1e-9)


def test_no_bit_depends_on_the_company_or_the_threads() -> None:
    model, layout, rows, data = small(torch.float32)

    def figures(of: list[int]) -> Tensor:
        losses = MeanLosses(model, [data[k] for k in of], rows=rows[of], layout=layout, batch=5)
        parts = sam_sharpness(losses, 0.1, 3), adaptive_sharpness(losses, 0.1)
        apart = flatness_distance(rows[of], rows[0], layout)
        tensors = layer_sensitivity(rows[of], rows[0], layout), layer_sharpness(losses, 0.1)
        return torch.cat([torch.stack([*parts, apart], 1), *tensors], 1)

    with torch_threads(2):
        together, turned = figures([0, 1, 2]), figures([2, 0, 1])
    with torch_threads(1):
        alone = torch.cat([figures([k]) for k in range(3)])
    assert torch.equal(together, alone) and torch.equal(turned, alone[[2, 0, 1]])


def test_distances_in_numpy() -> None:
    _, layout, rows, _ = small()
    spans = [(s.offset, s.stop) for s in layout.slots if s.trained]
    v, w = rows.numpy()[1:], rows.numpy()[0]
    squares = np.array([[((row - w)[a:b] ** 2) for a, b in spans] for row in v], dtype=object)
    far = [np.sqrt(sum(part.sum() for part in own)) for own in squares]
    np.testing.assert_allclose(flatness_distance(rows[1:], rows[0], layout), far, rtol=1e-12)
    means = [[part.mean() for part in own] for own in squares]
    np.testing.assert_allclose(layer_sensitivity(rows[1:], rows[0], layout), means, rtol=1e-12)

    def unit(x: np.ndarray) -> np.ndarray:
        return (x - x.min()) / (x.max() - x.min())

    scaled = [[((unit(r[a:b]) - unit(w[a:b])) ** 2).mean() for a, b in spans] for r in v]
    found = layer_sensitivity(rows[1:], rows[0], layout, normalize=True)
    np.testing.assert_allclose(found, scaled, rtol=1e-12)


def test_ignored_targets_are_no_part_of_the_mean() -> None:
    """Whole batches of them, and all of a model's."""
    case = small()
    model, layout, rows, data = case
    for k, ignored in ((0, slice(0, 5)), (1, slice(0, None))):
        data[k][1][ignored] = 2
    loss = partial(F.cross_entropy, ignore_index=2)
    losses = MeanLosses(model, data, rows=rows, layout=layout, loss=loss, batch=5)
    found, (sam, _, _) = sam_sharpness(losses, 0.2), direct(case, 0, 0.2, loss)
    assert found[0].item() == pytest.approx(sam, rel=1e-9)
    assert found[1].isnan() and found[2].isfinite()


def test_mistakes_are_named() -> None:
    model, layout, rows, data = small()
    losses = MeanLosses(model, data, rows=rows, layout=layout)
    with pytest.raises(ValueError, match="rho: expected a finite number above 0; got 0"):
        sam_sharpness(losses, 0)
    with pytest.raises(TypeError, match="rho: expected a number; got 'far'"):
        layer_sharpness(losses, "far")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps: expected"):
        sam_sharpness(losses, 0.1, 0)
    with pytest.raises(ValueError, match="eta: expected a finite number above 0; got -1"):
        adaptive_sharpness(losses, 0.1, -1)
    with pytest.raises(ValueError, match="samples: expected one for each of 3 models; got 2"):
        MeanLosses(model, data[:2], rows=rows, layout=layout)
    with pytest.raises(ValueError, match="loss: expected 'cross_entropy' or a callable"):
        MeanLosses(model, data, rows=rows, layout=layout, loss="mse")
    with pytest.raises(ValueError, match=r"rows: expected \[K, "):
        flatness_distance(rows[:, :3], rows[0], layout)
    with pytest.raises(ValueError, match="center: expected"):
        flatness_distance(rows, rows[0, :3], layout)
