"""`Hessian` against explicit Hessians and NumPy, and against quadratics in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedfast.layout import FlatLayout
from fedfast.metrics.hessian import Hessian

SPECTRUM = [5.0, 3.0, 3.0, 1.0, 0.5, 0.0, -0.25, -2.0]


class Weights(nn.Module):
    """Outputs its parameters, so that the loss alone decides on the Hessian."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, size, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w.expand(len(x), -1)


def quadratic(spectrum: list[float], **options: object) -> tuple[Hessian, np.ndarray]:
    """loss = w^T A w / 2 with A of this spectrum, in a rotated basis."""
    size = len(spectrum)
    basis = np.linalg.qr(np.random.default_rng(3).normal(size=(size, size)))[0]
    matrix = basis @ np.diag(spectrum) @ basis.T
    a = torch.from_numpy(matrix)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs @ a) * outputs).sum(1).mean() / 2

    data = torch.zeros(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    return Hessian(Weights(size), data, loss=loss, **options), matrix  # type: ignore[arg-type]


def small() -> tuple[nn.Module, FlatLayout, Tensor, list[tuple[Tensor, Tensor]]]:
    """Three float64 MLPs of 35 parameters, each with samples of its own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    layout = FlatLayout.of(model)
    rows = layout.bank(3)
    for views in layout.views(rows, trained_only=True).values():
        views.copy_(torch.randn(views.shape, dtype=torch.float64))
    data = [(torch.randn(n, 4, dtype=torch.float64), torch.randint(3, (n,))) for n in (7, 12, 9)]
    return model, layout, rows, data


def explicit(
    model: nn.Module, layout: FlatLayout, row: Tensor, data: tuple[Tensor, Tensor]
) -> np.ndarray:
    """The matrix, by torch's Hessian of all parameters."""
    layout.write(row, model)
    names, params = zip(*model.named_parameters(), strict=True)
    shapes = [p.shape for p in params]

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([s.numel() for s in shapes])
        held = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, held, (data[0],)), data[1])

    flat = torch.cat([p.detach().flatten() for p in params])
    return torch.autograd.functional.hessian(loss, flat, vectorize=True).numpy()  # type: ignore[no-untyped-call]


def test_eigenpairs_are_those_of_the_explicit_matrix() -> None:
    model, layout, rows, data = small()
    found = Hessian(model, data, rows=rows, layout=layout).eigenvalues(4, tol=1e-9)
    assert found.converged.all()
    for k in range(3):
        matrix = explicit(model, layout, rows[k], data[k])
        np.testing.assert_allclose(found.values[k], np.linalg.eigh(matrix)[0][::-1][:4], atol=1e-6)
        v = found.vectors[k].numpy()
        np.testing.assert_allclose(v @ v.T, np.eye(4), atol=1e-8)
        np.testing.assert_allclose(v @ matrix @ v.T, np.diag(found.values[k]), atol=1e-6)


def test_bounds_hold_before_convergence() -> None:
    hessian, _ = quadratic([float(i) for i in range(40)])
    found = hessian.eigenvalues(2, tol=1e-12, steps=6)
    assert not found.converged.any() and found.steps.tolist() == [6]
    for value, bound in zip(found.values[0], found.bounds[0], strict=True):
        assert min(abs(value - i) for i in range(40)) <= bound + 1e-9


def test_repeated_eigenvalues_are_all_found() -> None:
    hessian, matrix = quadratic(SPECTRUM)
    found = hessian.eigenvalues(len(SPECTRUM))
    np.testing.assert_allclose(found.values[0], np.linalg.eigvalsh(matrix)[::-1], atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("top", [2, 3, 5])
def test_repeated_eigenvalues_are_found_as_often_as_they_are_there(
    dtype: torch.dtype, top: int
) -> None:
    # At zero weights all classes are alike: H = X^T X / n (x) (I - 1 / C) / C.
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 4)).to(dtype)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    x, y = torch.randn(20, 6).double(), torch.randint(4, (20,))
    wide = np.column_stack([x.numpy(), np.ones(20)])
    classes = (np.eye(4) - 1 / 4) / 4
    expected = np.linalg.eigvalsh(np.kron(classes, wide.T @ wide / 20))[::-1]
    data = [(x[:7].to(dtype), y[:7]), (x.to(dtype), y)]
    rows = FlatLayout.of(model).flatten(model).repeat(2, 1)
    found = Hessian(model, data, rows=rows).eigenvalues(top)
    assert found.converged.all()
    np.testing.assert_allclose(found.values[1], expected[:top], rtol=1e-6)
    inner = found.vectors[1] @ found.vectors[1].T
    torch.testing.assert_close(inner, torch.eye(top, dtype=torch.float64), rtol=0, atol=1e-9)
    alone = Hessian(model, data[1:], rows=rows[1:]).eigenvalues(top)
    assert torch.equal(alone.values[0], found.values[1])
    assert torch.equal(alone.steps[0], found.steps[1])


@pytest.mark.parametrize("value", [2.0, 0.0, -3.0])
@pytest.mark.parametrize("top", [1, 4])
def test_a_multiple_of_the_identity(value: float, top: int) -> None:
    hessian, _ = quadratic([value] * 12)
    found = hessian.eigenvalues(top, steps=6)  # a Krylov space is exhausted by one
    assert found.converged.all()
    np.testing.assert_allclose(found.values[0], [value] * top, rtol=1e-12)


@pytest.mark.parametrize("top", [1, 3, 6])
def test_zeros_beyond_a_low_rank(top: int) -> None:
    spectrum = [4.0, 4.0, 2.0, *[0.0] * 40, -1.0]
    hessian, _ = quadratic(spectrum)
    found = hessian.eigenvalues(top, steps=12)
    assert found.converged.all()
    np.testing.assert_allclose(found.values[0], sorted(spectrum)[::-1][:top], atol=1e-9)


def test_progress_is_told_of_every_product() -> None:
    told: list[int] = []
    hessian, _ = quadratic(SPECTRUM, progress=lambda: told.append(1))
    assert len(told) == 0
    hessian.trace(7, method="hutchinson")
    assert len(told) == 7
    steps = int(hessian.eigenvalues().steps[0])
    assert len(told) == 7 + steps


def test_a_model_that_has_diverged_leaves_the_others_alone() -> None:
    model, layout, rows, data = small()
    whole = figures(Hessian(model, data, rows=rows, layout=layout))
    rows[1, 0] = float("nan")
    found = figures(Hessian(model, data, rows=rows, layout=layout))
    assert found[0][1].isnan().all() and found[5][1].isnan().all()  # eigenvalues, density
    for a, b in zip(found, whole, strict=True):
        assert torch.equal(a[[0, 2]], b[[0, 2]])
    done = Hessian(model, data, rows=rows, layout=layout).eigenvalues().converged
    assert done.tolist() == [True, False, True]


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_traces_are_within_their_errors(method: str) -> None:
    hessian, matrix = quadratic([1 / (i + 1) for i in range(40)])
    found = hessian.trace(60, method=method)
    assert 0 < found.errors[0] < 1
    assert abs(found.values[0] - np.trace(matrix)) < 4 * found.errors[0]


def test_the_trace_of_a_diagonal_matrix_and_of_low_rank_is_exact() -> None:
    low, _ = quadratic([4.0, 2.0, *[0.0] * 20])
    assert float(low.trace(30).values[0]) == pytest.approx(6.0, abs=1e-9)
    same, _ = quadratic([2.0] * 9)
    found = same.trace(5, method="hutchinson")
    assert float(found.values[0]) == pytest.approx(18.0) and float(found.errors[0]) < 1e-9
    assert same.trace(1, method="hutchinson").errors.isnan().all()


def test_the_density_has_integral_one_and_the_moments_of_the_spectrum() -> None:
    spectrum = [10.0] * 100 + [0.0] * 100
    hessian, _ = quadratic(spectrum)
    found = hessian.density(20, steps=10, points=4001, width=0.02)
    grid, values = found.grid[0].numpy(), found.values[0].numpy()
    assert np.trapezoid(values, grid) == pytest.approx(1, abs=1e-9)
    # Half of a random direction lies in each space: Beta(50, 50), std 0.05, over 20 of them.
    assert np.trapezoid(values * grid, grid) == pytest.approx(5, abs=10 * 4 * 0.05 / 20**0.5)
    centre = grid[values.argmax()]
    assert min(abs(centre), abs(centre - 10)) < 0.01
    assert values.max() == pytest.approx(0.5 / (0.2 * (2 * np.pi) ** 0.5), rel=0.1)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_has_the_same_bits_in_any_company(threads: int) -> None:
    model, layout, rows, data = small()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        all_three = figures(Hessian(model, data, rows=rows, layout=layout))
    finally:
        torch.set_num_threads(before)
    for k in range(3):
        alone = figures(Hessian(model, [data[k]], rows=rows[k : k + 1], layout=layout))
        assert all(torch.equal(a[0], b[k]) for a, b in zip(alone, all_three, strict=True))


def figures(hessian: Hessian) -> list[Tensor]:
    e, d = hessian.eigenvalues(2, tol=1e-3), hessian.density(2, steps=8, points=50)
    traces = [hessian.trace(9, method=m) for m in ("hutchinson", "hutch++")]
    pairs = [t for trace in traces for t in (trace.values, trace.errors)]
    return [e.values, e.bounds, e.vectors, e.steps, d.grid, d.values, *pairs]


def test_a_model_without_second_derivatives_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Hardsigmoid(), nn.Linear(4, 2))
    data = torch.randn(5, 3), torch.randint(2, (5,))
    with pytest.raises(ValueError, match="model: expected one with second derivatives; .*hardsig"):
        Hessian(model, data).eigenvalues()


def test_wrong_arguments_are_named() -> None:
    hessian, _ = quadratic(SPECTRUM)
    with pytest.raises(ValueError, match="top: expected at most 8"):
        hessian.eigenvalues(9)
    with pytest.raises(ValueError, match="method: expected hutchinson or hutch"):
        hessian.trace(method="exact")
    with pytest.raises(ValueError, match="width: expected a finite number above 0"):
        hessian.density(width=0.0)
    with pytest.raises(ValueError, match="samples"):
        hessian.trace(0)
