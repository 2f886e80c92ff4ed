"""`gather` against torch's indexing."""

from __future__ import annotations

import pytest
import torch
from blocks import alone_in_company, poison, same
from fedfast.kernels import gather
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

every_voice = pytest.mark.parametrize("voice", ["reference", "native"])
DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8)


def rows_of(samples: int, clients: int, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(samples, (clients, batch), generator=generator)


def bytes_of(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


@settings(max_examples=60, deadline=None)
@given(
    voice=st.sampled_from(["reference", "native"]),
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(1, 9), max_size=3),
    clients=st.integers(1, 5),
    batch=st.integers(1, 40),
)
def test_copies(voice, dtype, shape, clients, batch) -> None:
    bank, rows = bytes_of(17, *shape).to(dtype), rows_of(17, clients, batch)
    same(
        gather(bank, rows, out=None, backend=voice)
        if dtype != torch.uint8
        else gather(bank, rows, out=bank.new_empty(*rows.shape, *shape), backend=voice),
        bank[rows],
    )


@every_voice
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_normalises_bytes(voice: str, dtype: torch.dtype, channels: int) -> None:
    bank, rows = bytes_of(20, channels, 7, 9), rows_of(20, 3, 11)
    mean = torch.tensor([0.4914, 0.4822, 0.4465], dtype=dtype)[:channels]
    std = torch.tensor([0.2470, 0.2435, 0.2616], dtype=dtype)[:channels]
    out = poison(3, 11, channels, 7, 9, dtype=dtype)
    grey = bank[rows].to(dtype) / 255
    same(gather(bank, rows, out=out, backend=voice), grey)
    found = gather(bank, rows, mean=mean, std=std, out=out, backend=voice)
    same(found, (grey - mean[:, None, None]) / std[:, None, None])


def test_bytes_become_float32() -> None:
    assert gather(bytes_of(5, 4), rows_of(5, 2, 3)).dtype == torch.float32


def test_a_client_alone_equals_the_client_in_company() -> None:
    bank, rows = bytes_of(90, 3, 32, 32), rows_of(90, 5, 10)
    alone_in_company(lambda some: (gather(bank, rows[some]),), 5)


@every_voice
def test_into_a_longer_buffer(voice: str) -> None:
    bank, rows, buffer = torch.randn(9, 6), rows_of(9, 2, 4), poison(2, 40)
    out = buffer.as_strided((2, 4, 6), (40, 6, 1), 8)
    same(gather(bank, rows, out=out, backend=voice), bank[rows])
    assert buffer.isnan().sum() == 2 * 16


@every_voice
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
    with pytest.raises(ValueError, match="mean, std: expected both"):
        gather(bank.byte(), rows, mean=ones)
    with pytest.raises(ValueError, match="mean, std: expected a uint8 bank"):
        gather(bank, rows, mean=ones, std=ones)
    with pytest.raises(ValueError, match=r"std: expected shape \[3\]"):
        gather(bank.byte(), rows, mean=ones, std=torch.ones(2))
    with pytest.raises(TypeError, match="out: expected dtype torch.float32"):
        gather(bank, rows, out=torch.empty(2, 4, 3, 4).double())
    with pytest.raises(ValueError, match=r"out: expected shape \[2, 4, 3, 4\]"):
        gather(bank, rows, out=torch.empty(2, 4, 12))
