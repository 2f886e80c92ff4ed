"""Hessians of models whose first layer is dense, on fewer samples than inputs, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedfast.data import Samples
from fedfast.layout import FlatLayout
from fedfast.metrics import Hessian

WIDE, INPUTS, CLASSES = torch.float64, 40, 3
Data = tuple[Tensor, Tensor]


def mlp(activation: nn.Module | None = None, bias: bool = True) -> nn.Module:
    first = nn.Flatten(), nn.Linear(INPUTS, 4, bias=bias), activation or nn.Tanh()
    return nn.Sequential(*first, nn.Linear(4, CLASSES, bias=bias)).to(WIDE)


def drawn(module: nn.Module, models: int) -> tuple[FlatLayout, Tensor]:
    layout = FlatLayout.of(module)
    rows = layout.flatten(module).repeat(models, 1)
    for views in layout.views(rows, trained_only=True).values():
        views += torch.randn(views.shape, dtype=WIDE) / 5
    return layout, rows


def samples(count: int, rank: int | None = None, shape: tuple[int, ...] = (INPUTS,)) -> Data:
    x = torch.randn(count, *shape, dtype=WIDE)
    return x if rank is None else x[torch.arange(count) % rank], torch.randint(CLASSES, (count,))


def explicit(module: nn.Module, layout: FlatLayout, row: Tensor, data: Data) -> np.ndarray:
    """The matrix over the trained parameters, in the order of the row."""
    slots = [slot for slot in layout.slots if slot.trained]

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([s.length for s in slots])
        held = {s.name: p.view(s.shape) for s, p in zip(slots, parts, strict=True)}
        outputs = torch.func.functional_call(module, layout.tensors(row) | held, (data[0],))
        return F.cross_entropy(outputs, data[1])

    flat = torch.cat([row[s.offset : s.stop] for s in slots])
    return torch.autograd.functional.hessian(loss, flat, vectorize=True).numpy()  # type: ignore[no-untyped-call]


CASES: dict[str, Callable[[], nn.Module]] = {
    "tanh": mlp,
    "relu, no bias": lambda: mlp(nn.ReLU(), bias=False),
    "one layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, CLASSES)).to(WIDE),
}
DATA = {
    "few": lambda: samples(5),
    "images": lambda: samples(7, shape=(1, 5, 8)),
    "rank 3 of 12": lambda: samples(12, 3),
    "zeros": lambda: (torch.zeros(4, INPUTS, dtype=WIDE), torch.tensor([0, 1, 2, 0])),
    "more than inputs": lambda: samples(60),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("top", [3, 6])  # six: more zeros than the coordinates promise
def test_eigenpairs(case: str, top: int) -> None:
    torch.manual_seed(1)
    module, data = CASES[case](), [make() for make in DATA.values()]
    layout, rows = drawn(module, len(data))
    for k, own in enumerate(data):
        hessian = Hessian(module, own, rows=rows[k : k + 1], layout=layout, batch=4)
        found = hessian.eigenvalues(top, tol=1e-10, steps=300)
        matrix = explicit(module, layout, rows[k], own)
        expected, v = np.linalg.eigh(matrix)[0][::-1][:top], found.vectors[0].numpy()
        assert found.converged.all()
        np.testing.assert_allclose(found.values[0], expected, atol=1e-8)
        np.testing.assert_allclose(v @ v.T, np.eye(top), atol=1e-8)
        np.testing.assert_allclose(matrix @ v.T, v.T * expected, atol=1e-7)


def test_traces_and_densities_count_the_zeros() -> None:
    torch.manual_seed(2)
    module, data = mlp(), [samples(5), samples(60), samples(9, 2)]
    layout, rows = drawn(module, 3)
    hessian = Hessian(module, data, rows=rows, layout=layout)
    matrices = [explicit(module, layout, rows[k], data[k]) for k in range(3)]
    for method in ("hutchinson", "hutch++"):
        found = hessian.trace(60, method=method)
        for k, matrix in enumerate(matrices):
            distance = abs(float(found.values[k]) - np.trace(matrix))
            assert distance < 5 * float(found.errors[k]) + 1e-6
    found = hessian.density(20, steps=60, points=4001, width=0.01)
    for grid, values, matrix in zip(
        found.grid.numpy(), found.values.numpy(), matrices, strict=True
    ):
        mean = np.trapezoid(values * grid, grid)
        # A random direction's v^T H v has standard deviation <= sqrt(2) |H|_F / P.
        spread = 2**0.5 * np.linalg.norm(matrix) / len(matrix) / 20**0.5
        assert abs(mean - np.trace(matrix) / len(matrix)) < 5 * spread + 1e-3 * np.ptp(grid)
        near = np.abs(np.linalg.eigvalsh(matrix)) < 0.01 * np.ptp(grid)
        at = np.abs(grid) < 0.05 * np.ptp(grid)
        assert np.trapezoid(values[at], grid[at]) > near.mean() - 0.1


def test_company_and_threads_change_no_bit() -> None:
    torch.manual_seed(3)
    data = [samples(n) for n in (5, 60, 9, 10, 5)]
    module = mlp()
    layout, rows = drawn(module, len(data))
    together = figures(Hessian(module, data, rows=rows, layout=layout), 2)
    for k, own in enumerate(data):
        alone = figures(Hessian(module, own, rows=rows[k : k + 1], layout=layout), 1)
        assert all(torch.equal(a[0], b[k]) for a, b in zip(alone, together, strict=True))


def figures(hessian: Hessian, threads: int) -> list[Tensor]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        e, d, t = hessian.eigenvalues(2), hessian.density(2, steps=5), hessian.trace(6)
    finally:
        torch.set_num_threads(before)
    return [e.values, e.vectors, e.bounds, e.steps, d.grid, d.values, t.values, t.errors]


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(INPUTS, INPUTS), nn.Tanh(), nn.Linear(INPUTS, INPUTS))
    module[2].weight = module[0].weight
    return module.to(WIDE)


def frozen() -> nn.Module:
    module = mlp()
    module.get_parameter("1.weight").requires_grad_(False)
    return module


class TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = (nn.Linear(INPUTS, CLASSES, dtype=WIDE) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + torch.tanh(self.other(x))


def convolved() -> nn.Module:
    head = nn.Flatten(), nn.Linear(2 * 6 * 6, CLASSES)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), *head).to(WIDE)


@pytest.mark.parametrize("make", [tied, frozen, TwoReaders, convolved])
def test_other_models_keep_their_parameters(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(4)
    module = make()
    own = samples(5, shape=(1, 8, 8) if make is convolved else (INPUTS,))
    layout, rows = drawn(module, 1)
    found = Hessian(module, own, rows=rows, layout=layout).eigenvalues(2, tol=1e-9)
    expected = np.linalg.eigvalsh(explicit(module, layout, rows[0], own))[::-1][:2]
    np.testing.assert_allclose(found.values[0], expected, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 29), st.integers(1, 29), st.integers(0, 99), st.booleans())
def test_models_with_shared_samples(count: int, rank: int, seed: int, shared: bool) -> None:
    torch.manual_seed(seed)
    module, own = mlp(), samples(count, rank)
    layout, rows = drawn(module, 2)
    data = own if shared else [own, samples(count)]
    found = Hessian(module, data, rows=rows, layout=layout).eigenvalues(1, tol=1e-9)
    for k in range(2):
        held = own if shared else data[k]
        matrix = explicit(module, layout, rows[k], held)
        expected = np.linalg.eigvalsh(matrix)[-1]
        assert float(found.values[k, 0]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("top", [2, 4, 6])  # six: more zeros than the coordinates promise
def test_repeated_eigenvalues(dtype: torch.dtype, top: int) -> None:
    # At zero weights all classes are alike: H = X^T X / n (x) (I - 1 / C) / C.
    torch.manual_seed(6)
    module = nn.Sequential(nn.Linear(INPUTS, 4)).to(dtype)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    data = [(x.to(dtype), y) for x, y in (samples(5), samples(1), samples(60))]
    rows = FlatLayout.of(module).flatten(module).repeat(len(data), 1)
    found = Hessian(module, data, rows=rows).eigenvalues(top, tol=1e-6)
    assert found.converged.all()
    for k, (x, _) in enumerate(data):
        wide = np.column_stack([x.double().numpy(), np.ones(len(x))])
        matrix = np.kron((np.eye(4) - 1 / 4) / 4, wide.T @ wide / len(x))
        expected, v = np.linalg.eigvalsh(matrix)[::-1][:top], found.vectors[k].numpy()
        np.testing.assert_allclose(found.values[k], expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(v @ v.T, np.eye(top), atol=1e-9)
        # torch's first weight and bias are [4, 40] and [4]; the matrix has them side by side.
        own = np.concatenate([v[:, :-4].reshape(top, 4, INPUTS), v[:, -4:, None]], 2)
        own = own.reshape(top, -1)
        np.testing.assert_allclose(own @ matrix, own * expected[:, None], atol=1e-4)


def test_a_model_that_has_diverged_leaves_the_others_alone() -> None:
    torch.manual_seed(7)
    module, data = mlp(), [samples(n) for n in (5, 5, 60, 60)]
    layout, rows = drawn(module, len(data))
    whole = figures(Hessian(module, data, rows=rows, layout=layout), 2)
    rows[1, 3] = rows[3, 3] = float("nan")
    found = figures(Hessian(module, data, rows=rows, layout=layout), 2)
    for a, b in zip(found, whole, strict=True):
        assert torch.equal(a[[0, 2]], b[[0, 2]])
    for lost in (found[i][[1, 3]] for i in (0, 1, 2, 4, 5, 6)):  # all but steps and errors
        assert lost.isnan().all()
    assert found[3].tolist()[1::2] == [0, 0]


def test_float32_is_near_float64() -> None:
    torch.manual_seed(5)
    module, (x, y) = mlp(), samples(9)
    layout, rows = drawn(module, 2)
    wide = Hessian(module, (x, y), rows=rows, layout=layout)
    narrow = module.float()
    low = FlatLayout.of(narrow)
    hessian = Hessian(narrow, Samples(x.float(), y), rows=rows.float(), layout=low)
    ours, expected = hessian.eigenvalues(2, tol=1e-5), wide.eigenvalues(2, tol=1e-9)
    torch.testing.assert_close(ours.values, expected.values, rtol=1e-4, atol=1e-6)
    assert ours.values.dtype == ours.vectors.dtype == WIDE
