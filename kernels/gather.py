"""`gather`: K clients' mini-batches out of one bank of samples.

    out[k, b] = bank[rows[k, b]]                                  any dtype, as it is
    out[k, b] = (bank[rows[k, b]] / 255 - mean) / std             uint8 bank, floating out

Bytes per element of a sample (f = element size): reads f (1 from uint8), writes f.
Deterministic: a copy; normalised bytes are looked up in a table of 256 values per channel, which
are torch's to the bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _native_layers, reference_layers
from ._blocks import integers, no_triton
from ._launch import speak

FLOAT = torch.float32


def gather(
    bank: Tensor,
    rows: Tensor,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out`, the samples `rows` of `bank`.

    bank       `[n, ...]` contiguous; uint8 banks become floats in [0, 1], then normalised
    rows       `[K, B]` int64, in [0, n)
    mean, std  `[C]` of out's dtype for a uint8 bank `[n, C, ...]`; both or neither
    out        `[K, B, ...]` of the bank's dtype, or floating for a uint8 bank (float32 if None);
               each client's part contiguous
    Raises TypeError/ValueError naming the argument, IndexError for a row out of range (the native
    voice then has written the others), RuntimeError on CUDA (no Triton voice yet).
    """
    if not isinstance(bank, Tensor):
        raise TypeError(f"bank: expected a tensor; got {type(bank).__name__}")
    if not bank.is_contiguous():
        raise ValueError(f"bank: expected a contiguous tensor; got strides {bank.stride()}")
    if not isinstance(rows, Tensor) or rows.ndim != 2:
        found = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        raise ValueError(f"rows: expected a tensor [K, B]; got {found}")
    rows = integers("rows", rows, rows.shape, torch.int64, bank)
    out = _out(bank, rows, out)
    mean, std = _scales(bank, mean, std, out)
    kind = out if out.dtype in (torch.float32, torch.float64) else out.new_empty(0, dtype=FLOAT)
    return speak(_VOICES, backend, kind, bank, rows, mean, std, out)


def _out(bank: Tensor, rows: Tensor, out: Any) -> Tensor:
    shape = (*rows.shape, *bank.shape[1:])
    grey = bank.dtype == torch.uint8
    if out is None:
        return bank.new_empty(shape, dtype=FLOAT if grey else bank.dtype)
    if not isinstance(out, Tensor):
        raise TypeError(f"out: expected a tensor; got {type(out).__name__}")
    if out.dtype != bank.dtype and not (grey and out.dtype.is_floating_point):
        wanted = "a floating dtype" if grey else f"dtype {bank.dtype}"
        raise TypeError(f"out: expected {wanted}; got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out: expected shape {list(shape)}; got {list(out.shape)}")
    if out.device != bank.device:
        raise ValueError(f"out: expected device {bank.device}; got {out.device}")
    if rows.shape[0] and not out[0].is_contiguous():
        raise ValueError(
            f"out: expected each client's part to be contiguous; got strides {out.stride()}"
        )
    if rows.shape[0] > 1 and out.stride(0) == 0:
        raise ValueError("out: expected memory for each client; got client stride 0")
    return out


def _scales(
    bank: Tensor, mean: Tensor | None, std: Tensor | None, out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    if mean is None and std is None:
        return None, None
    if mean is None or std is None:
        raise ValueError("mean, std: expected both or neither")
    if bank.dtype != torch.uint8 or not out.dtype.is_floating_point or bank.ndim < 2:
        raise ValueError(
            f"mean, std: expected a uint8 bank [n, C, ...] and a floating out; got {bank.dtype} "
            f"{list(bank.shape)} and {out.dtype}"
        )
    return _scale("mean", mean, bank, out), _scale("std", std, bank, out)


def _scale(name: str, value: Tensor, bank: Tensor, out: Tensor) -> Tensor:
    if value.shape != bank.shape[1:2]:
        raise ValueError(f"{name}: expected shape [{bank.shape[1]}]; got {list(value.shape)}")
    return value.to(out.device, out.dtype).contiguous()


_VOICES = {
    "reference": reference_layers.gather,
    "native": _native_layers.gather,
    "triton": no_triton("gather"),
}
