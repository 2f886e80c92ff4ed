"""How clients' parts become one bank, and the errors that name the client that does not fit."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .samples import Samples
from .transform import Normalize


def shape(x: Tensor) -> str:
    """The shape of one sample, as error messages show it."""
    return ", ".join(map(str, x.shape[1:]))


def joined(parts: list[Samples], normalize: Normalize | None) -> Samples:
    """All parts as one bank, or the ValueError that names the client that does not fit."""
    first = parts[0].x
    if normalize is None:
        normalize = parts[0].normalize
    else:
        normalize.check("client 0.x", first)
    for i, part in enumerate(parts):
        if part.x.shape[1:] != first.shape[1:] or part.x.dtype != first.dtype:
            raise ValueError(
                f"client {i}.x: expected shape [n, {shape(first)}] and {first.dtype} as client 0; "
                f"got {list(part.x.shape)} and {part.x.dtype}"
            )
    y = next((part.y for part in parts if len(part)), parts[0].y)
    for i, part in enumerate(parts):
        if len(part) and (part.y.shape[1:] != y.shape[1:] or part.y.dtype != y.dtype):
            raise ValueError(
                f"client {i}.y: expected {['n', *y.shape[1:]]} and {y.dtype} as other clients; "
                f"got {list(part.y.shape)} and {part.y.dtype}"
            )
    ys = [part.y if len(part) else y[:0] for part in parts]
    x = torch.cat([part.x for part in parts])
    return Samples(x, torch.cat(ys), normalize)


def bank_rows(i: int, index: ArrayLike, n: int) -> np.ndarray:
    """The rows of a bank of `n` that client `i` owns, `[n_i]` int64; errors name the client."""
    rows = np.asarray(index)
    if rows.ndim != 1:
        raise ValueError(f"indices[{i}]: expected shape [n_i]; got {list(rows.shape)}")
    if rows.size == 0:
        return np.empty(0, dtype=np.int64)
    if rows.dtype.kind not in "iu":
        raise TypeError(f"indices[{i}]: expected integers; got dtype {rows.dtype}")
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(
            f"indices[{i}]: client {i}: expected rows in [0, {n}); got {rows.min()}..{rows.max()}"
        )
    return rows.astype(np.int64)
