"""Arguments as users write them, in the one form every backend takes; errors name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ._scalars import brief, kind_of, number
from .placed import PlacedRows, RowsLike
from .segments import Segments

Coefficient = float | Tensor
TermsLike = RowsLike | Sequence[RowsLike | tuple[RowsLike, Coefficient]]

MAX_TERMS = 8
_COEFFICIENT = "a number or a tensor [K]"

# What the products of float32 operands may be rounded to:
#   fp32     products and sums in float32
#   tf32x3   three products of TF32 parts (11 bits each): nearly float32's error
#   tf32     operands rounded to TF32, sums in float32: relative errors of 1e-3 in a product
#   bf16     operands rounded to bfloat16 (8 bits), sums in float32: errors of 4e-3 in a product
# A permission, not an order: backends without such units (reference, native), float64 operands and
# products too narrow for a matrix ignore it and are exact to their dtype.
PRECISIONS = ("fp32", "tf32x3", "tf32", "bf16")


@lru_cache(maxsize=4096)
def _filled(value: float, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((count,), value, dtype=dtype, device=device)


def per_client(name: str, value: Coefficient, bank: RowsLike) -> Tensor:
    """A number or a `[K]` tensor as a contiguous `[K]` of the bank's dtype (numbers: made once)."""
    if not isinstance(value, Tensor):
        value = value if value.__class__ is float else number(name, value, _COEFFICIENT)
        return _filled(value, bank.shape[0], bank.dtype, bank.device)
    if value.ndim == 0:
        value = value.expand(bank.shape[0])
    if value.dtype.is_complex:
        raise TypeError(f"{name}: expected real numbers; got {value.dtype}")
    if value.shape != bank.shape[:1]:
        raise ValueError(
            f"{name}: expected a number or shape [{bank.shape[0]}]; got {list(value.shape)}"
        )
    return moved(name, value, bank)


def moved(name: str, value: Tensor, bank: RowsLike) -> Tensor:
    """`value`, contiguous and of the bank's dtype and device."""
    try:
        return value.to(bank.device, bank.dtype).contiguous()
    except NotImplementedError:  # "meta" has nothing to copy
        raise ValueError(f"{name}: expected device {bank.device}; got {value.device}") from None


def chosen(name: str, value: str | None, options: tuple[str | None, ...]) -> str | None:
    """`value`, one of the options."""
    try:
        if value in options:
            return value
    except (TypeError, ValueError, RuntimeError):  # of an array's ==
        pass
    if None in options:
        *some, last = (option if option is None else repr(option) for option in options)
        wanted = f"expected {', '.join(map(str, some))} or {last}"
    else:
        wanted = f"expected one of {', '.join(map(str, options))}"
    raise ValueError(f"{name}: {wanted}; got {brief(value)}")


def placed_or_rows(name: str, value: RowsLike, bank: RowsLike) -> RowsLike:
    """`rows`, or `PlacedRows` of the same shape, dtype and device."""
    if not isinstance(value, PlacedRows):
        return rows(name, value, bank)
    _same_shape(name, value, bank)
    same_kind(name, value, bank)
    return value


def rows(name: str, value: Tensor, bank: RowsLike) -> Tensor:
    """A `[K, S]` bank or a shared row `[S]` (row stride 0), of the bank's dtype and device."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor; got {kind_of(value)}")
    if value.ndim == 1:
        value = value.expand(bank.shape[0], -1)
    _same_shape(name, value, bank)
    same_kind(name, value, bank)
    return _dense(name, value)


def _same_shape(name: str, value: RowsLike, bank: RowsLike) -> None:
    if value.shape != bank.shape:
        raise ValueError(
            f"{name}: expected shape {list(bank.shape)} or [{bank.shape[1]}]; "
            f"got {list(value.shape)}"
        )


def _dense(name: str, value: Tensor) -> Tensor:
    strides = value.stride()
    if strides[1] != 1 and value.shape[1] > 1:
        raise ValueError(f"{name}: expected contiguous elements in a row; got strides {strides}")
    return value


def same_kind(name: str, value: RowsLike, bank: RowsLike) -> None:
    """Raise TypeError or ValueError unless `value` has the dtype and device of `bank`."""
    if value.dtype != bank.dtype:
        raise TypeError(f"{name}: expected dtype {bank.dtype}; got {value.dtype}")
    if value.device != bank.device:
        raise ValueError(f"{name}: expected device {bank.device}; got {value.device}")


def placed_or_bank(name: str, w: RowsLike, others: Sequence[RowsLike | None]) -> RowsLike:
    """`bank_like`, or `PlacedRows` as they are."""
    if not isinstance(w, PlacedRows):
        return bank_like(name, w, others)
    if not w.dtype.is_floating_point:
        raise TypeError(f"{name}: expected a floating dtype; got {w.dtype}")
    return w


def bank_like(name: str, w: Tensor, others: Sequence[RowsLike | None]) -> Tensor:
    """`w` as `[K, S]`: K comes from the first two-dimensional operand (1 if there is none)."""
    if not isinstance(w, Tensor):
        raise TypeError(f"{name}: expected a tensor; got {kind_of(w)}")
    if not w.dtype.is_floating_point:
        raise TypeError(f"{name}: expected a floating dtype; got {w.dtype}")
    if w.ndim not in (1, 2):
        raise ValueError(f"{name}: expected shape [K, S] or [S]; got {list(w.shape)}")
    if w.ndim == 1:
        banks = (o for o in others if isinstance(o, Tensor | PlacedRows) and o.ndim == 2)
        first = next(banks, None)
        w = w.expand(1 if first is None else first.shape[0], -1)
    return _dense(name, w)


def placed_or_output(name: str, out: RowsLike | None, bank: RowsLike) -> RowsLike:
    """`output`, or `PlacedRows` that are written."""
    return (
        placed_or_rows(name, out, bank) if isinstance(out, PlacedRows) else output(name, out, bank)
    )


def output(name: str, out: Tensor | None, bank: RowsLike) -> Tensor:
    """`out` checked, or a new `[K, S]` tensor; a row shared by clients cannot be written."""
    if out is None:
        return torch.empty(bank.shape, dtype=bank.dtype, device=bank.device)
    out = rows(name, out, bank)
    if out.shape[0] > 1 and out.stride(0) == 0:
        raise ValueError(
            f"{name}: expected a [K, S] bank, since one row cannot hold the results of "
            f"{out.shape[0]} clients; got row stride 0"
        )
    return out


def output64(name: str, out: Tensor | None, shape: Sequence[int], bank: RowsLike) -> Tensor:
    """`out` checked, or a new contiguous float64 tensor of that shape on the bank's device."""
    if out is None:
        return torch.empty(shape, dtype=torch.float64, device=bank.device)
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}: expected a tensor; got {kind_of(out)}")
    if out.shape != tuple(shape) or out.dtype != torch.float64 or not out.is_contiguous():
        found = f"{out.dtype} {list(out.shape)}, strides {out.stride()}"
        raise ValueError(f"{name}: expected contiguous float64 {list(shape)}; got {found}")
    if out.device != bank.device:
        raise ValueError(f"{name}: expected device {bank.device}; got {out.device}")
    return out


def within(segments: Segments | None, bank: Tensor) -> Segments:
    """`segments`, checked to end inside the bank's rows; None is one segment, the whole row."""
    if segments is None:
        return Segments.whole(bank.shape[1], bank.device)
    if not isinstance(segments, Segments):
        raise TypeError(f"segments: expected Segments; got {kind_of(segments)}")
    if segments.end > bank.shape[1]:
        raise ValueError(f"segments: expected end <= S = {bank.shape[1]}; got {segments.end}")
    return segments


def split_terms(terms: TermsLike) -> list[tuple[RowsLike, Coefficient]]:
    """One tensor, or a sequence of tensors and (tensor, coefficient) pairs, as pairs."""
    if not isinstance(terms, (Tensor, PlacedRows, Sequence)) or isinstance(terms, (str, bytes)):
        raise TypeError(f"terms: expected a tensor or a sequence of them; got {kind_of(terms)}")
    listed = [terms] if isinstance(terms, Tensor | PlacedRows) else list(terms)
    pairs = [t if isinstance(t, tuple) else (t, 1.0) for t in listed]
    if not 1 <= len(pairs) <= MAX_TERMS:
        raise ValueError(f"terms: expected 1 to {MAX_TERMS} terms; got {len(pairs)}")
    for i, pair in enumerate(pairs):
        if len(pair) != 2:
            raise ValueError(f"terms[{i}]: expected (tensor, coefficient); got {len(pair)} values")
    return pairs


def as_terms(
    pairs: Sequence[tuple[RowsLike, Coefficient]], bank: RowsLike
) -> list[tuple[RowsLike, Tensor]]:
    """Pairs of (buffer, coefficient) as (`[K, S]`, `[K]`)."""
    return [
        (
            placed_or_rows(f"terms[{i}]", buffer, bank),
            per_client(f"terms[{i}] coefficient", coef, bank),
        )
        for i, (buffer, coef) in enumerate(pairs)
    ]
