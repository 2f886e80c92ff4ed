"""`FlatLayout`: a module's tensors laid out in one padded row, and `[K, S]` tensors of rows.

    | trained parameters | pad | running statistics, counters | pad |
    0                    trained                              stride

Every tensor starts at a multiple of 32 elements, both regions end at a multiple of 64. The
optimizer's operations act on `row[:trained]`; buffers (what a training step changes without
a gradient) lie behind it and are averaged, never stepped. Padding is zero and stays zero.
Frozen parameters and buffers that never change are constants: they stay with the module.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from ._messages import format_value
from .kernels import Segments
from .layout_checks import FLOATS, check_tensors
from .layout_slots import Slot, head_span, inside_row, place_slots, unique, widest

ROUNDING = 1e-6  # of a mean of counters, far below 1 / samples of any client's share


@dataclass(frozen=True, eq=False)
class FlatLayout:
    """The map between a module's named tensors and one row; make it with `FlatLayout.of(module)`.

    slots    the tensors in row order: trained parameters first, then buffers; counters
             (BatchNorm's `num_batches_tracked`) keep their integer dtype in `Slot.dtype`
    aliases  names that share another tensor (tied weights) -> the name that holds it
    aside    names of constants: not in the row, kept as the module has them
    trained  end of the trained region, a multiple of 64
    stride   `S`, elements per row, a multiple of 64
    dtype    of the row
    head     `row[head[0] : head[1]]` is the last Linear of the module, its tensors and their
             padding; (0, 0) where there is none, or where it is frozen or shares a tensor
    """

    slots: tuple[Slot, ...]
    aliases: Mapping[str, str]
    aside: tuple[str, ...]
    trained: int
    stride: int
    dtype: torch.dtype
    head: tuple[int, int]

    @classmethod
    def of(
        cls,
        module: nn.Module,
        dtype: torch.dtype | None = None,
        moving: Collection[str] | None = None,
    ) -> FlatLayout:
        """Lay out a module.

        dtype   of the row; by default the widest of the module's tensors, so that every value
                survives the round trip
        moving  names of the buffers that a training step changes (`inspect_model` finds them);
                None takes all that are floats, frozen parameters too
        Raises ValueError for what a row cannot hold: complex or 8-bit floats, integer parameters,
        parameters without values (lazy or meta), tensors that overlap in memory without being the
        same tensor; and for a moving buffer that is not finite at the start.
        """
        if not isinstance(module, nn.Module):
            raise TypeError(f"module: expected an nn.Module; got {format_value(module)}")
        if isinstance(moving, str) or not isinstance(
            moving, list | tuple | set | frozenset | dict | None
        ):
            raise TypeError(f"moving: expected names of buffers; got {format_value(moving)}")
        named, aliases = unique(module)
        for name in () if moving is None else moving:
            if not isinstance(name, str) or name not in named.keys() | aliases.keys():
                raise ValueError(f"moving: expected names of buffers; got {format_value(name)}")
        inside = inside_row(module, named, aliases, moving)
        check_tensors(module, named, inside, whole=moving is None)
        floats = [t for t in inside.values() if t.is_floating_point()]
        dtype = widest(floats) if dtype is None else dtype
        if not isinstance(dtype, torch.dtype) or dtype not in FLOATS:
            raise ValueError(
                f"dtype: a row holds one of {[str(d) for d in FLOATS]}; got {format_value(dtype)}"
            )
        learns = {name for name, p in module.named_parameters() if p.requires_grad}
        first, trained = place_slots({n: t for n, t in inside.items() if n in learns}, 0, True)
        rest, stride = place_slots(
            {n: t for n, t in inside.items() if n not in learns}, trained, False
        )
        aside = tuple(name for name in named if name not in inside)
        head = head_span(module, first)
        return cls((*first, *rest), aliases, aside, trained, stride, dtype, head)

    @property
    def ties(self) -> bool:
        """Whether two names share a tensor of the row."""
        held = {slot.name for slot in self.slots}
        return any(name in held for name in self.aliases.values())

    @property
    def constants(self) -> frozenset[str]:
        """All names of the tensors that are aside."""
        others = (name for name, held in self.aliases.items() if held in self.aside)
        return frozenset((*self.aside, *others))

    @property
    def counters(self) -> tuple[Slot, ...]:
        """The buffers that are no floats."""
        return tuple(slot for slot in self.slots if not slot.dtype.is_floating_point)

    @property
    def parameters(self) -> int:
        """`P`, how many trained scalars the row holds (padding not counted)."""
        return sum(slot.length for slot in self.slots if slot.trained)

    def segments(self, device: torch.device | str = "cpu") -> Segments:
        """The trained tensors as a segment table for operations on `row[:trained]`."""
        return _segments(self, torch.device(device))

    def bank(self, clients: int, device: torch.device | str = "cpu", full: bool = True) -> Tensor:
        """Zeros `[clients, stride]`, or `[clients, trained]` if not `full`."""
        width = self.stride if full else self.trained
        return torch.zeros(clients, width, dtype=self.dtype, device=device)

    def views(self, rows: Tensor, trained_only: bool = False) -> dict[str, Tensor]:
        """Name -> view, without a copy. rows `[S]` give `[*shape]`, `[K, S]` give `[K, *shape]`.

        Rows cut at `trained` serve with `trained_only`.
        """
        width = self.trained if trained_only else self.stride
        if rows.shape[-1] < width or rows.ndim not in (1, 2):
            raise ValueError(
                f"rows: expected [S] or [K, S] with S = {width}; got {list(rows.shape)}"
            )
        lead = rows.shape[:-1]
        return {
            slot.name: rows[..., slot.offset : slot.stop].view(lead + slot.shape)
            for slot in self.slots
            if slot.trained or not trained_only
        }

    def tensors(self, row: Tensor) -> dict[str, Tensor]:
        """What a module reads for `row` [S]: views, and copies of counters in their own dtype."""
        views = self.views(row)
        return views | {s.name: views[s.name].to(s.dtype) for s in self.counters}

    def settle(self, row: Tensor) -> None:
        """Counters of an averaged row [S] made whole, as `load_state_dict` casts a mean of them.

        What rounding took from a whole number (2.9999999) is given back first.
        """
        for slot in self.counters:
            view = row[slot.offset : slot.stop]
            whole = view.ne(0) if slot.dtype is torch.bool else (view + ROUNDING).trunc()
            view.copy_(whole)

    def write(self, row: Tensor, module: nn.Module) -> None:
        """Set the module's tensors, non-persistent ones too, to the values of `row` [S]."""
        held = unique(module)[0]
        with torch.no_grad():
            for name, value in self.tensors(row).items():
                held[name].copy_(value)

    def flatten(self, module: nn.Module, device: torch.device | str = "cpu") -> Tensor:
        """A module's tensors as a new row `[S]`; ValueError if it is another architecture."""
        row = self.bank(1, device)[0]
        tensors = unique(module)[0]
        for slot, view in zip(self.slots, self.views(row).values(), strict=True):
            source = tensors.get(slot.name)
            if source is None or source.shape != slot.shape:
                found = "nothing" if source is None else list(source.shape)
                raise ValueError(f"module: expected {slot.name} {list(slot.shape)}; got {found}")
            view.copy_(source.detach())
        return row

    def state_dict(self, row: Tensor, module: nn.Module) -> dict[str, Tensor]:
        """A `state_dict` for `module` with the values of `row` `[S]`, each in its own dtype.

        Copies; tied names are included, and what the row does not hold comes from the module.
        """
        views = self.views(row)
        own = {slot.name: slot.dtype for slot in self.slots}
        result = {}
        for name, value in module.state_dict().items():
            held = self.aliases.get(name, name)
            if held in views:
                result[name] = views[held].to(device=value.device, dtype=own[held], copy=True)
            else:
                result[name] = value.clone() if isinstance(value, Tensor) else value
        return result


@lru_cache(maxsize=64)
def _segments(layout: FlatLayout, device: torch.device) -> Segments:
    slots = [slot for slot in layout.slots if slot.trained]
    return Segments.of(
        [s.offset for s in slots],
        [s.length for s in slots],
        ["weight" in s.name for s in slots],
        device,
    )
