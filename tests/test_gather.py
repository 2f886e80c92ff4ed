"""`gather` against torch's indexing, padding and mirroring, in every voice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fedfast.kernels import gather
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import poison, same
from torch import Tensor

VOICES = ("reference", "native", "triton")
every_voice = pytest.mark.parametrize("voice", VOICES)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8)


def rows_of(samples: int, clients: int, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(samples, (clients, batch), generator=generator)


def bytes_of(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


@settings(max_examples=60, deadline=None)
@given(
    voice=st.sampled_from(VOICES),
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(1, 9), max_size=3),
    clients=st.integers(1, 3),
    batch=st.integers(1, 20),
)
def test_copies(voice, dtype, shape, clients, batch) -> None:
    bank, rows = bytes_of(17, *shape).to(dtype), rows_of(17, clients, batch)
    same(
        gather(bank, rows, out=None, backend=voice)
        if dtype != torch.uint8
        else gather(bank, rows, out=bank.new_empty(*rows.shape, *shape), backend=voice),
        bank[rows],
    )


def tones(channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(scale, shift) of a usual normalisation."""
    mean = torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64)[:channels]
    std = torch.tensor([0.2470, 0.2435, 0.2616], dtype=torch.float64)[:channels]
    return (1 / (255 * std)).to(dtype), (-mean / std).to(dtype)


@every_voice
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_normalises_bytes(voice: str, dtype: torch.dtype, channels: int) -> None:
    bank, rows = bytes_of(20, channels, 7, 9), rows_of(20, 2, 5)
    scale, shift = tones(channels, dtype)
    out = poison(2, 5, channels, 7, 9, dtype=dtype)
    same(
        gather(bank, rows, out=out, backend=voice), bank[rows] * (torch.ones(1, dtype=dtype) / 255)
    )
    found = gather(bank, rows, scale=scale, shift=shift, out=out, backend=voice)
    same(found, bank[rows] * scale[:, None, None] + shift[:, None, None])
    textbook = (bank[rows].double() / 255 - 0.4914) / 0.2470
    torch.testing.assert_close(found[:, :, 0].double(), textbook[:, :, 0], rtol=0, atol=1e-6)


def by_hand(image: Tensor, offset: Tensor, flip: bool, pad: int, margin: Tensor) -> Tensor:
    """torch's way: pad the float image [C, H, W], cut the window, mirror it."""
    height, width = image.shape[1:]
    outside = F.pad(torch.ones(height, width), [pad] * 4) == 0
    wide = torch.where(outside, margin[:, None, None], F.pad(image, [pad] * 4))
    top, left = (pad + int(o) for o in offset)
    cut = wide[:, top : top + height, left : left + width]
    return cut.flip(2) if flip else cut


@settings(max_examples=80, deadline=None)
@given(
    voice=st.sampled_from(VOICES),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 40)),
    clients=st.integers(1, 2),
    batch=st.integers(1, 3),
    pad=st.integers(0, 45),
    black=st.booleans(),
    seed=st.integers(0, 99),
)
def test_crops_and_flips(voice, dtype, shape, clients, batch, pad, black, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    bank, rows = bytes_of(7, *shape), rows_of(7, clients, batch)
    draw = (clients, batch)
    offset = torch.randint(-pad, pad + 1, (*draw, 2), generator=generator, dtype=torch.int32)
    flip = torch.randint(2, draw, generator=generator).bool()
    scale, shift = torch.rand(2, shape[0], generator=generator, dtype=dtype) + 0.5
    margin = shift if black else torch.zeros_like(shift)
    found = gather(
        bank,
        rows,
        scale=scale,
        shift=shift,
        margin=None if black else margin,
        offset=offset,
        flip=flip,
        out=poison(*draw, *shape, dtype=dtype),
        backend=voice,
    )
    for k in range(clients):
        for b in range(batch):
            image = bank[rows[k, b]] * scale[:, None, None] + shift[:, None, None]
            same(found[k, b], by_hand(image, offset[k, b], bool(flip[k, b]), pad, margin))


@every_voice
def test_a_pad_before_normalisation_is_a_black_pixel(voice: str) -> None:
    """Two pixels to the right and one down from a corner: three sides of the window are inside."""
    bank, rows = torch.full((1, 1, 3, 4), 255, dtype=torch.uint8), torch.zeros(1, 1).long()
    offset = torch.tensor([[[1, 2]]], dtype=torch.int32)
    tone = dict(scale=torch.tensor([1 / 255]), shift=torch.tensor([-0.25]), offset=offset)
    found = gather(bank, rows, **tone, backend=voice)[0, 0, 0]
    white, black = 0.75, -0.25
    expected = [[white, white, black, black]] * 2 + [[black] * 4]
    torch.testing.assert_close(found, torch.tensor(expected))
    after = gather(bank, rows, **tone, margin=torch.zeros(1), backend=voice)[0, 0, 0]
    torch.testing.assert_close(after[2], torch.zeros(4), rtol=0, atol=0)
    mirrored = gather(bank, rows, **tone, flip=torch.ones(1, 1).bool(), backend=voice)[0, 0, 0]
    same(mirrored, found.flip(1))


@every_voice
def test_offsets_far_outside_leave_only_margin(voice: str) -> None:
    bank, rows = bytes_of(2, 2, 3, 5), rows_of(2, 1, 4)
    far = 2**31 - 1
    offset = torch.tensor([[[far, 0], [-far, 0], [0, far], [0, -far]]], dtype=torch.int32)
    found = gather(bank, rows, offset=offset, margin=torch.tensor([7.0]), backend=voice)
    same(found, torch.full_like(found, 7.0))


def test_bytes_become_float32() -> None:
    assert gather(bytes_of(5, 4), rows_of(5, 2, 3)).dtype == torch.float32


@pytest.mark.parametrize("voice", ["reference", "native"])
@pytest.mark.parametrize("row", [9, -1])
def test_out_of_range(voice: str, row: int) -> None:
    rows = rows_of(9, 2, 4)
    rows[1, 2] = row
    with pytest.raises(IndexError, match=r"rows: expected rows of the bank, in \[0, 9\)"):
        gather(torch.randn(9, 6), rows, backend=voice)


def test_errors_name_the_argument() -> None:
    bank, rows, ones = torch.zeros(9, 3, 4), rows_of(9, 2, 4), torch.ones(3)
    with pytest.raises(TypeError, match="rows: expected dtype torch.int64"):
        gather(bank, rows.int())
    with pytest.raises(ValueError, match="scale, shift: expected both"):
        gather(bank.byte(), rows, scale=ones)
    with pytest.raises(ValueError, match="scale: expected a uint8 bank"):
        gather(bank, rows, scale=ones, shift=ones)
    with pytest.raises(ValueError, match=r"shift: expected shape \[3\] or \[1\]; got \[2\]"):
        gather(bank.byte(), rows, scale=ones, shift=torch.ones(2))
    with pytest.raises(ValueError, match=r"offset, flip: expected a bank of images"):
        gather(bank.byte(), rows, flip=torch.zeros(2, 4).bool())
    images = torch.zeros(9, 3, 4, 5, dtype=torch.uint8)
    with pytest.raises(TypeError, match="offset: expected dtype torch.int32; got torch.int64"):
        gather(images, rows, offset=torch.zeros(2, 4, 2).long())
    with pytest.raises(ValueError, match=r"flip: expected shape \[2, 4\]; got \[2, 3\]"):
        gather(images, rows, flip=torch.zeros(2, 3).bool())
    with pytest.raises(TypeError, match="native.* serves float32 and float64; got torch.float16"):
        gather(images, rows, out=torch.empty(2, 4, 3, 4, 5).half(), backend="native")
    with pytest.raises(TypeError, match="out: expected dtype torch.float32"):
        gather(bank, rows, out=torch.empty(2, 4, 3, 4).double())
    with pytest.raises(ValueError, match=r"out: expected shape \[2, 4, 3, 4\]"):
        gather(bank, rows, out=torch.empty(2, 4, 12))


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64])
def test_out_of_range_on_a_device_that_cannot_raise(dtype: torch.dtype) -> None:
    bank, rows = bytes_of(9, 6).to(dtype), rows_of(9, 2, 4)
    whole = gather(bank, rows, out=torch.empty(2, 4, 6).to(dtype), backend="reference")
    rows[1, 2] = 9
    found = gather(bank, rows, out=torch.full((2, 4, 6), 77).to(dtype), backend="triton")
    whole[1, 2] = torch.nan if dtype.is_floating_point else 0
    same(found, whole)
