"""`cross_entropy` against torch in float64, over ragged batches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fedfast.kernels import cross_entropy
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import TOLERANCE, block, close, poison, same
from logit_cases import LOGITS, counts, every_backend, every_dtype, tiles
from torch import Tensor


def targets_of(clients: int, batch: int, classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(classes, (clients, batch), generator=generator)


def check(logits: Tensor, targets: Tensor, count: Tensor, backend: str) -> None:
    losses, dlogits = poison(len(count), dtype=logits.dtype), poison(*logits.shape).to(logits)
    cross_entropy(logits, targets, count, losses=losses, dlogits=dlogits, backend=backend)
    for k, n in enumerate(count.tolist()):
        leaf = logits[k].double().requires_grad_()
        loss = F.cross_entropy(leaf[:n], targets[k, :n])
        (gradient,) = torch.autograd.grad(loss, leaf)
        tolerance = TOLERANCE[logits.dtype]  # next to a sure prediction torch's own digits cancel
        assert (dlogits[k] - gradient).norm() <= tolerance * max(gradient.norm(), 1 / n)
        assert (losses[k] - loss).abs() <= tolerance * max(loss, 1)
        assert (dlogits[k, n:] == 0).all()


@settings(max_examples=60, deadline=None)
@given(**LOGITS, classes=st.integers(2, 130))
def test_against_autograd(backend, dtype, batch, classes, stretch, kind, data) -> None:
    logits = block(1, 3, batch, classes, dtype=dtype, kind=kind).mul_(stretch)
    count = counts(data, batch)
    check(logits, targets_of(3, batch, classes), count, backend)


@every_dtype
@tiles
def test_triton_against_autograd(
    batch: int, classes: int, stretch: float, dtype: torch.dtype
) -> None:
    logits = block(1, 2, batch, classes, dtype=dtype, kind="strided").mul_(stretch)
    count = torch.tensor([batch, (batch + 1) // 2], dtype=torch.int32)
    check(logits, targets_of(2, batch, classes), count, "triton")


@every_dtype
def test_parts_of_a_large_batch_on_a_device(dtype: torch.dtype) -> None:
    """Rows that several programs take: alone as in company, broken ones nobody else's."""
    logits, targets = block(1, 4, 11, 600, dtype=dtype), targets_of(4, 11, 600)
    count = torch.tensor([11, 5, 1, 11], dtype=torch.int32)
    check(logits, targets, count, "triton")
    losses, dlogits = cross_entropy(logits, targets, count, backend="triton")
    alone = cross_entropy(logits[3:], targets[3:], count[3:], backend="triton")
    same(alone[0], losses[3:])
    same(alone[1], dlogits[3:])
    count[0], targets[1, 3] = 0, 600
    after, gradients = cross_entropy(logits, targets, count, backend="triton")
    assert after.isnan().tolist() == [True, True, False, False]
    assert (gradients[0] == 0).all() and gradients[1, 3].isnan().all()
    same(after[2:], losses[2:])
    same(gradients[2:], dlogits[2:])
    same(gradients[1, :3], dlogits[1, :3])


@every_backend
def test_huge_logits_stay_finite(backend: str) -> None:
    logits = torch.tensor([[[1e4, -1e4, 0.0], [-3e38, 3e38, 3e38]]])
    losses, dlogits = cross_entropy(
        logits, torch.tensor([[0, 1]]), torch.tensor([2], dtype=torch.int32), backend=backend
    )
    close(losses[None], torch.tensor([[0.5 * 0.6931471805599453]], dtype=torch.float64))
    same(dlogits, torch.tensor([[[0, 0, 0], [0, -0.25, 0.25]]]))


@every_backend
def test_masked_classes(backend: str) -> None:
    logits = torch.tensor([[[1.0, -torch.inf, 2.0]]])
    count = torch.ones(1, dtype=torch.int32)
    losses, dlogits = cross_entropy(logits, torch.tensor([[0]]), count, backend=backend)
    close(losses[None], F.cross_entropy(logits[0].double(), torch.tensor([0]))[None, None])
    assert dlogits[0, 0, 1] == 0


@every_backend
def test_nan_stays_with_its_client(backend: str) -> None:
    logits = block(1, 3, 7, 5)
    logits[1, 2, 3] = torch.nan
    count = torch.full((3,), 7, dtype=torch.int32)
    losses, dlogits = cross_entropy(logits, targets_of(3, 7, 5), count, backend=backend)
    assert losses.isnan().tolist() == [False, True, False]
    assert dlogits[1, 2].isnan().all() and dlogits[[0, 2]].isfinite().all()


@every_backend
def test_nothing_beyond_the_count_is_read(backend: str) -> None:
    logits, targets = block(1, 2, 6, 4), targets_of(2, 6, 4)
    count = torch.tensor([4, 0], dtype=torch.int32)
    before = cross_entropy(logits, targets, count, backend=backend)
    logits[0, 4:], logits[1], targets[0, 4:], targets[1] = torch.nan, torch.nan, 99, -1
    after = cross_entropy(logits, targets, count, backend=backend)
    for a, b in zip(before, after, strict=True):
        same(a, b)
    assert after[0].isnan().tolist() == [False, True] and (after[1][1] == 0).all()


@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize(
    ("target", "count"), [(4, 3), (-1, 3), (0, 7), (0, -1)], ids=["large", "negative", "7", "-1"]
)
def test_out_of_range(backend: str, target: int, count: int) -> None:
    targets = targets_of(2, 6, 4)
    targets[1, 1] = target
    counts = torch.tensor([3, count], dtype=torch.int32)
    with pytest.raises(IndexError, match="targets in"):
        cross_entropy(block(1, 2, 6, 4), targets, counts, backend=backend)


@pytest.mark.parametrize(("target", "count"), [(4, 3), (-1, 3), (0, 7), (0, -1)])
def test_out_of_range_on_a_device_is_nan(target: int, count: int) -> None:
    """Looking would wait for the device; nobody else's numbers change."""
    logits, targets = block(1, 2, 6, 4), targets_of(2, 6, 4)
    counts = torch.tensor([3, 3], dtype=torch.int32)
    fine = cross_entropy(logits, targets, counts, backend="triton")
    targets[1, 1], counts[1] = target, count
    losses, dlogits = cross_entropy(logits, targets, counts, backend="triton")
    assert losses[1].isnan() and (dlogits[1, 1].isnan().all() or count < 0)
    same(losses[0], fine[0][0])
    same(dlogits[0], fine[1][0])


def test_errors_name_the_argument() -> None:
    logits, targets, count = torch.zeros(2, 3, 4), torch.zeros(2, 3).long(), torch.ones(2).int()
    with pytest.raises(TypeError, match="count: expected dtype torch.int32"):
        cross_entropy(logits, targets, count.long())
    with pytest.raises(ValueError, match=r"targets: expected shape \[2, 3\]"):
        cross_entropy(logits, targets[:, :2], count)
    with pytest.raises(ValueError, match=r"losses: expected shape \[2\]"):
        cross_entropy(logits, targets, count, losses=torch.zeros(3))
    with pytest.raises(ValueError, match="losses: expected a contiguous"):
        cross_entropy(logits, targets, count, losses=torch.zeros(2, 2)[:, 0])
