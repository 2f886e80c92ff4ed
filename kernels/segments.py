"""The segment table: where each tensor of a model lies in a flat row.

Kernels know nothing of models; they are given this table when an operation works layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ._scalars import kind_of

_DTYPES = {"offset": torch.int32, "length": torch.int32, "is_weight": torch.bool}
_LARGEST = 2**31 - 1  # of an int32


def _check_table(name: str, table: object, dtype: torch.dtype, like: Tensor) -> None:
    """Raise unless `table` is one contiguous [L] of that dtype, on the device of `like`."""
    if not isinstance(table, Tensor):
        raise TypeError(f"{name}: expected a tensor [L] of {dtype}; got {kind_of(table)}")
    if table.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}; got {table.dtype}")
    if table.ndim != 1 or table.shape != like.shape or not table.is_contiguous():
        raise ValueError(
            f"{name}: expected a contiguous [L], one number per segment; got {list(table.shape)}, "
            f"strides {table.stride()}, beside offset {list(like.shape)}"
        )
    if table.device != like.device:
        raise ValueError(f"{name}: expected device {like.device}; got {table.device}")


def _check_pieces(offset: Sequence[int], length: Sequence[int]) -> None:
    """Raise ValueError unless the pieces ascend, do not overlap, and end where int32 can say."""
    end = 0
    for o, n in zip(offset, length, strict=True):
        if o < end or n < 0:
            raise ValueError(
                "offset: expected ascending pieces that do not overlap; "
                f"got offset {o}, length {n} after end {end}"
            )
        end = o + n
        if end > _LARGEST:
            raise ValueError(f"length: expected ends below 2^31; got offset {o}, length {n}")


def _listed(name: str, table: object) -> None:
    """Raise TypeError unless `table` is a sequence of whole numbers or flags."""
    whole = isinstance(table, Sequence) and all(
        isinstance(item, int) or type(item).__module__ == "numpy" for item in table
    )
    if not whole or isinstance(table, (str, bytes)):
        raise TypeError(f"{name}: expected a sequence of integers; got {kind_of(table)}")


@dataclass(frozen=True, eq=False)
class Segments:
    """`L` disjoint, ascending pieces of a row of `S` elements; what lies between them is padding.

    offset     [L] int32, first element of each segment
    length     [L] int32, number of elements (0 is allowed)
    is_weight  [L] bool, True where element-adaptive perturbation applies (ASAM: "weight" in the
               name)
    Raises TypeError/ValueError naming the table for other dtypes, shapes, devices or strides, and
    for pieces that do not ascend, overlap or end beyond 2^31 - 1. Tables must not be changed
    afterwards.
    """

    offset: Tensor
    length: Tensor
    is_weight: Tensor

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            _check_table(name, getattr(self, name), dtype, self.offset)
        if self.offset.device.type != "meta":
            _check_pieces(self.offset.tolist(), self.length.tolist())

    @classmethod
    def of(
        cls,
        offset: Sequence[int],
        length: Sequence[int],
        is_weight: Sequence[bool] | None = None,
        device: torch.device | str = "cpu",
    ) -> Segments:
        """Build the table from Python sequences.

        Raises ValueError for unequal counts, or pieces that do not ascend or that overlap.
        """
        _listed("offset", offset)
        _listed("length", length)
        if is_weight is not None:
            _listed("is_weight", is_weight)
        flags = [True] * len(offset) if is_weight is None else [bool(f) for f in is_weight]
        if not len(offset) == len(length) == len(flags):
            raise ValueError(
                "segments: expected one offset, length and is_weight per segment; "
                f"got {len(offset)}, {len(length)}, {len(flags)}"
            )
        _check_pieces(offset, length)
        table = cls(
            torch.tensor(offset, dtype=torch.int32, device=device),
            torch.tensor(length, dtype=torch.int32, device=device),
            torch.tensor(flags, dtype=torch.bool, device=device),
        )
        # Known already: no need to read them back from the device.
        table.__dict__["spans"] = tuple((o, o + n) for o, n in zip(offset, length, strict=True))
        table.__dict__["flags"] = tuple(flags)
        return table

    @staticmethod
    @lru_cache(maxsize=256)
    def whole(size: int, device: torch.device | str = "cpu") -> Segments:
        """One segment that covers a row of `size` elements (made once per size and device)."""
        return Segments.of([0], [size], device=device)

    @property
    def count(self) -> int:
        """`L`, the number of segments."""
        return self.offset.shape[0]

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """(start, stop) of every segment as Python integers; read once from the device."""
        pairs = zip(self.offset.tolist(), self.length.tolist(), strict=True)
        return tuple((o, o + n) for o, n in pairs)

    @cached_property
    def flags(self) -> tuple[bool, ...]:
        """`is_weight` as Python values; read once from the device."""
        return tuple(self.is_weight.tolist())

    @cached_property
    def end(self) -> int:
        """One past the last element of the last segment (0 for an empty table)."""
        return self.spans[-1][1] if self.spans else 0


@dataclass(frozen=True, eq=False)
class Blocks:
    """A row cut into blocks that never straddle two segments, for kernels with one program each.

    table    [n, 5] int32: start, stop, edge, layer, is_weight. A block covers `start` up to `edge`
             (where the next segment starts) or its size; from `stop` on it is padding.
    first    [L + 1] int32: segment l has the blocks first[l] .. first[l + 1]; none has those of the
             padding before the first segment
    aligned  every start and edge is a multiple of 16 elements, so that loads can be 16 bytes wide
    """

    table: Tensor
    first: Tensor
    aligned: bool

    @property
    def count(self) -> int:
        """Number of blocks."""
        return self.table.shape[0]


@lru_cache(maxsize=64)
def blocks(segments: Segments, size: int, block: int, device: torch.device) -> Blocks:
    """The row of `size` elements in blocks of at most `block`; made once for its arguments."""
    starts = [start for start, _ in segments.spans]
    edges = [*starts[1:], size]
    head = starts[0] if starts else size
    table = [(s, 0, head, 0, 0) for s in range(0, head, block)]  # padding before the first segment
    first = [len(table)]
    for layer, ((start, stop), edge) in enumerate(zip(segments.spans, edges, strict=False)):
        flag = int(segments.flags[layer])
        table += [(s, stop, edge, layer, flag) for s in range(start, edge, block)]
        first.append(len(table))
    return Blocks(
        torch.tensor(table, dtype=torch.int32, device=device).reshape(-1, 5),
        torch.tensor(first, dtype=torch.int32, device=device),
        all(place % 16 == 0 for place in (*starts, size)),
    )
