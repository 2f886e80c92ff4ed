"""Which tensors of a module a row holds, and where each of them lies."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ALIGN_TENSOR = 32
ALIGN_ROW = 64


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies, `row[offset : stop]`, and its own shape and dtype."""

    name: str
    shape: torch.Size
    dtype: torch.dtype
    offset: int
    trained: bool

    @property
    def length(self) -> int:
        """Number of elements."""
        return self.shape.numel()

    @property
    def stop(self) -> int:
        """One past the last element."""
        return self.offset + self.length


def unique(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors under their first name, and the other names they go by."""
    first: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    buffers = module.named_buffers(remove_duplicate=False)
    for name, tensor in (*module.named_parameters(remove_duplicate=False), *buffers):
        if id(tensor) in first:
            aliases[name] = first[id(tensor)]
        else:
            first[id(tensor)] = name
            tensors[name] = tensor
    return tensors, aliases


def inside_row(
    module: nn.Module,
    named: Mapping[str, Tensor],
    aliases: Mapping[str, str],
    moving: Collection[str] | None,
) -> dict[str, Tensor]:
    """The tensors a row holds, in the module's order; counters last."""
    if moving is None:
        return {name: t for name, t in named.items() if t.is_floating_point()}
    learns = {name for name, p in module.named_parameters() if p.requires_grad}
    held = learns | {aliases.get(name, name) for name in moving}
    inside = {name: t for name, t in named.items() if name in held}
    floats = {name: t for name, t in inside.items() if t.is_floating_point()}
    return floats | inside


def place_slots(
    tensors: Mapping[str, Tensor], start: int, trained: bool
) -> tuple[tuple[Slot, ...], int]:
    """Slots one after another from `start`, and the aligned end of their region."""
    slots, offset = [], start
    for name, t in tensors.items():
        slots.append(Slot(name, t.shape, t.dtype, offset, trained))
        offset = _up(offset + t.numel(), ALIGN_TENSOR)
    return tuple(slots), _up(offset, ALIGN_ROW)


def head_span(module: nn.Module, slots: Sequence[Slot]) -> tuple[int, int]:
    """Where the last Linear lies, if it has all its tensors to itself and trains them."""
    last = [(name, m) for name, m in module.named_modules() if isinstance(m, nn.Linear)][-1:]
    for name, linear in last:
        own = [slot for slot in slots if slot.name.rpartition(".")[0] == name]
        if len(own) == len(list(linear.parameters())):
            return own[0].offset, _up(own[-1].stop, ALIGN_TENSOR)
    return 0, 0


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def widest(tensors: Iterable[Tensor]) -> torch.dtype:
    dtypes = list(dict.fromkeys(t.dtype for t in tensors))
    widest = dtypes[0] if dtypes else torch.float32
    for dtype in dtypes[1:]:
        widest = torch.promote_types(widest, dtype)
    return widest
