"""What a run of a plan is told besides its operations, as the addresses the module takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._plan_tensors import check_dense, check_table


class Counted(NamedTuple):
    """How many samples of each batch count, int32, of batches of `width` samples."""

    counts: Tensor
    width: int


class Soon(NamedTuple):
    """What steps to come touch, for threads to have it fetched meanwhile; no result depends on it.

    samples  a contiguous bank `[N, ...]`; rows `[R, B]` int64: of each line
    models   `[>= K, n]`, the rows that clients' first steps write, each contiguous
    """

    samples: Tensor
    rows: Tensor
    models: Tensor


def begins_of(offsets: Tensor) -> NDArray[np.int64]:
    """What lies in them, which costs less to read than from the tensor."""
    check_table("offsets", offsets, torch.int64, 1)
    check_dense("offsets", offsets, 0)
    if offsets.shape[0] == 0:
        raise ValueError("offsets: expected shape [T + 1]; got [0]")
    begins: NDArray[np.int64] = offsets.numpy()
    return begins


def counts_of(counted: Counted | None, most: int) -> tuple[int, int]:
    """(the address of the counts, the width of a batch); 0, 0 for none."""
    if counted is None:
        return 0, 0
    count = counted.counts
    check_table("count", count, torch.int32, 1)
    check_dense("count", count, 0)
    if count.shape[0] < most:
        raise ValueError(f"count: expected at least {most}; got {count.shape[0]}")
    return count.data_ptr(), counted.width


def soon_of(soon: Soon | None, width: int, lines: int, clients: int) -> tuple[int, ...]:
    """The compiled module's `Soon`: addresses and strides in bytes."""
    if soon is None:
        return 0, 0, 0, 0, 0, 0
    samples, rows, models = soon
    check_table("soon.rows", rows, torch.int64, 2)
    check_dense("soon.rows", rows, 0)
    if rows.shape[0] < lines or rows.shape[1] != width:
        raise ValueError(f"soon.rows: expected at least [{lines}, {width}]; got {list(rows.shape)}")
    if models.shape[0] < clients:
        raise ValueError(f"soon.models: expected at least {clients} rows; got {models.shape[0]}")
    sample = samples.stride(0) * samples.element_size()
    size = models.element_size()
    at = models.data_ptr(), models.stride(0) * size, models.shape[1] * size
    return samples.data_ptr(), sample, rows.data_ptr(), *at


def models_of(models: Tensor | None, clients: int) -> tuple[int, int, int]:
    """Address, stride and bytes of the rows; 0 for none."""
    if models is None:
        return 0, 0, 0
    if models.ndim != 2 or models.shape[0] < clients or models.stride(1) != 1:
        raise ValueError(
            f"models: expected [K, n] of at least {clients} clients, contiguous rows; got "
            f"{list(models.shape)}, strides {models.stride()}"
        )
    size = models.element_size()
    return models.data_ptr(), models.stride(0) * size, models.shape[1] * size


def lanes_of(
    rows: Sequence[Tensor], alike: Tensor | None, clients: int
) -> tuple[list[tuple[int, int]], int]:
    """(address and bytes of each first row, where `alike` is, 0 for none)."""
    for i, lane in enumerate(rows):
        if lane.ndim != 2 or lane.shape[0] < clients or lane.stride(0) < lane.shape[1]:
            raise ValueError(
                f"lanes.rows[{i}]: expected [K, n] of at least {clients} clients, rows apart; got "
                f"{list(lane.shape)}, strides {lane.stride()}"
            )
    if alike is not None:
        check_table("lanes.alike", alike, torch.int64, 1, (clients,))
        check_dense("lanes.alike", alike, 0)
    same = 0 if alike is None else alike.data_ptr()
    return [(t.data_ptr(), t.shape[1] * t.element_size()) for t in rows], same
