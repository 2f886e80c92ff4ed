"""Packed mini-batches (`fetch`, `advance`) against torch's indexing and sums in Python."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fedfast.kernels import advance, fetch, gather, registry
from fedfast.kernels.packing import ByStep, Into, Packed, Tally, Tones
from layer_cases import poison, same
from torch import Tensor

CLIENTS, LINES, BATCH, SAMPLES = 3, 7, 5, 17
BACKENDS = ("reference", "native", "triton")
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def drawn(high: int, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    generator = torch.Generator().manual_seed(3 + high)
    return torch.randint(high, shape, generator=generator).to(dtype)


def tables(**more: Tensor) -> Packed:
    """Seven lines, of which the three clients take others than the first ones."""
    rows, count = drawn(SAMPLES, LINES, BATCH), drawn(BATCH, LINES, dtype=torch.int32)
    return Packed(rows, count, torch.tensor([4, 1, 6]), **more)


def room(*shape: int, dtype: torch.dtype, seeds: bool = False) -> Into:
    """Of other numbers, with something between the clients of x and y."""
    x = torch.full((CLIENTS, BATCH + 1, *shape), -7.0).to(dtype)[:, :BATCH]
    y, count = torch.full((CLIENTS, BATCH + 2), -7), torch.full((CLIENTS,), -7, dtype=torch.int32)
    return Into(x, y[:, :BATCH], count, torch.full((CLIENTS,), -7) if seeds else None)


LABELS = drawn(10, SAMPLES)


def checked(packed: Packed, into: Into) -> None:
    """What comes with the inputs."""
    same(into.y, LABELS[packed.rows[packed.lines]])
    same(into.count, packed.count[packed.lines])
    if packed.seeds is not None and into.seeds is not None:
        same(into.seeds, packed.seeds[packed.lines])


@every_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 700)])
def test_samples_are_copied(backend: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    samples, packed = drawn(1000, SAMPLES, *shape, dtype=dtype), tables(seeds=drawn(99, LINES))
    into = room(*shape, dtype=dtype, seeds=True)
    fetch(samples, LABELS, packed, into, Tones(), backend)
    same(into.x, samples[packed.rows[packed.lines]])
    checked(packed, into)


@every_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("moved", [False, True])
def test_images_are_looked_at_as_gather_does(backend: str, dtype: torch.dtype, moved: bool) -> None:
    images, tones = drawn(256, SAMPLES, 2, 5, 6, dtype=torch.uint8), torch.rand(3, 2, dtype=dtype)
    offset, flip = drawn(5, LINES, BATCH, 2, dtype=torch.int32) - 2, drawn(2, LINES, BATCH) > 0
    packed = tables(offset=offset, flip=flip) if moved else tables()
    into = room(2, 5, 6, dtype=dtype)
    fetch(images, LABELS, packed, into, Tones(*tones), backend)
    moves = dict(offset=offset[packed.lines], flip=flip[packed.lines]) if moved else {}
    scale, shift, margin = tones
    expected = gather(
        images,
        packed.rows[packed.lines],
        **dict(scale=scale, shift=shift, margin=margin, **moves),
        out=poison(CLIENTS, BATCH, 2, 5, 6, dtype=dtype),
        backend="reference",
    )
    same(into.x, expected)
    checked(packed, into)


def test_a_row_out_of_range_is_nan_in_triton() -> None:
    samples, packed, into = torch.rand(SAMPLES, 4), tables(), room(4, dtype=torch.float32)
    packed.rows[4, 1], packed.rows[1, 2] = SAMPLES, -1
    fetch(samples, LABELS, packed, into, Tones(), "triton")
    bad = torch.zeros(CLIENTS, BATCH, dtype=torch.bool)
    bad[0, 1] = bad[1, 2] = True
    assert into.x.isnan().all(-1).equal(bad)
    assert into.y[bad].tolist() == [0, 0]


@every_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clients", [1, 3, 200])
def test_losses_are_added_up_and_lines_move_on(
    backend: str, dtype: torch.dtype, clients: int
) -> None:
    """Clients behind those of the step stay as they are; products of float32 are exact."""
    losses, lines = torch.rand(clients, dtype=dtype), drawn(50, clients + 2)
    count, total = drawn(9, clients, dtype=torch.int32), torch.rand(2, clients + 2).double()
    step, before = torch.tensor(41), (lines.clone(), total.clone())
    own = losses, count, total[:, :clients], lines[:clients], step
    advance(Tally(*own), backend=backend)
    assert step == 42
    moved = torch.where(torch.arange(clients + 2) < clients, clients, 0)
    same(lines, before[0] + moved)
    for k, (loss, n) in enumerate(zip(losses.tolist(), count.tolist(), strict=True)):
        expected = float(before[1][0, k]) + loss * n, float(before[1][1, k]) + loss
        exact = dtype == torch.float32
        assert total[:, k].tolist() == pytest.approx(expected, rel=0 if exact else 1e-15, abs=0)
    same(total[:, clients:], before[1][:, clients:])


@every_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clients", [1, 3, 200])
@pytest.mark.parametrize("numbers", [1, 3])
def test_numbers_of_the_next_step_are_those_of_its_line(
    backend: str, dtype: torch.dtype, clients: int, numbers: int
) -> None:
    """Step after step; fewer clients go on, whose others keep theirs, all keep the last ones."""
    steps, n = 4, clients + 2
    tables = torch.rand(numbers, steps, n, dtype=dtype)
    expected, places = tables[:, 0].clone(), torch.arange(clients)
    by_step = ByStep(tables, expected.clone(), places)
    for s, going in enumerate([clients, clients, (clients + 1) // 2, 1], start=1):
        tally = Tally(
            torch.rand(going, dtype=dtype),
            drawn(9, going, dtype=torch.int32),
            torch.zeros(2, going, dtype=torch.float64),
            drawn(50, going),
            torch.tensor(0),
        )
        advance(tally, replace(by_step, places=places[:going]), backend)
        if s < steps:
            expected[:, :going] = tables[:, s, :going]
        same(by_step.now, expected)
        assert places[:going].tolist() == [s * n + k for k in range(going)]


def test_steps_are_recorded_by_backends_that_only_launch() -> None:
    """The reference looks at numbers, which a capture refuses."""
    x = torch.zeros(1)
    found = {name: registry.capabilities(name, x).graphs for name in BACKENDS}
    assert found == dict(reference=False, native=False, triton=True)
