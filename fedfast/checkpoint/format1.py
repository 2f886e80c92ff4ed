"""States of format 1, which `torch.save` wrote: read, never written.

    {"format": 1, "run", "history", "stopped", "server", "scalars", "clients", "tuned", "slot"}

They have neither checksums nor a whole identity: what they record is compared, and their contents
are checked as those of any other. Their rows held every float of the module, constants too, and no
counters: `migrated` moves them to the layout of now, name by name.
"""

from __future__ import annotations

import ast
import pickle
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..build import Components
from ..design import Design
from ..history import Row, Rows
from ..layout import FlatLayout
from ..layout_slots import Slot
from .container import Damaged
from .contents import Contents, named

Saved = dict[str, Any]  # what torch loads
MAGIC = b"PK\x03\x04"  # of the archive that torch writes; safetensors begin with a length


def claims(path: Path) -> bool:
    """Whether the file is an archive of torch."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(path: Path) -> Contents:
    """The contents, as format 2 has them. Raises Damaged naming the file."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or found.get("format") != 1:
            got = found.get("format") if isinstance(found, dict) else type(found).__name__
            raise Damaged(f"expected a saved simulation of format 1, found {got}")
        return _contents(found)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
        raise Damaged(f"{path}: not a saved simulation, or a damaged one: {error}") from error
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise Damaged(f"{path}: not a saved simulation: {error!r}") from error


def differences(design: Design, found: Contents) -> list[str]:
    """`name OURS, found SAVED` of what such a state records of its run."""
    assert found.run is not None
    data = design.data
    ours = {
        "dtype": str(design.dtype),
        "clients": f"{data.num_clients} with {int(data.sizes.sum())} samples",
        "algorithm": repr(design.algorithm),
        "seed": str(design.options.seed),
        "weights": str(design.layout.parameters),
    }
    was = dict(found.run)
    if _matches(str(was.get("algorithm")), design.algorithm):
        was["algorithm"] = ours["algorithm"]
    return [f"{k} {v}, found {was.get(k)}" for k, v in ours.items() if was.get(k) != v]


def _matches(text: str, value: object) -> bool:
    """Whether `text` is the repr of `value` in the code of then, which knew fewer fields."""
    try:
        return _agrees(ast.parse(text, mode="eval").body, value)
    except SyntaxError:  # a function's, or that of a class with a repr of its own
        return text == repr(value)


def _agrees(written: ast.expr, value: object) -> bool:
    if not isinstance(written, ast.Call) or not is_dataclass(value):
        return ast.dump(written) == ast.dump(ast.parse(repr(value), mode="eval").body)
    known = {f.name: f for f in fields(value) if f.repr}
    words = {word.arg: word.value for word in written.keywords if word.arg is not None}
    if ast.unparse(written.func) != type(value).__qualname__ or words.keys() - known.keys():
        return False
    own = {name: getattr(value, name) for name in known}
    return all(
        _agrees(words[n], v) if n in words else v == _default(known[n]) for n, v in own.items()
    )


def _default(field: Field[object]) -> object:
    """A field's default; `MISSING` equals nothing."""
    factory = field.default_factory
    return field.default if factory is MISSING else factory()


def migrated(parts: Components, found: Contents) -> Contents:
    """The same state in rows of today's layout. Raises Damaged where its constants are others."""
    layout, module = parts.design.layout, parts.design.module
    try:
        old = FlatLayout.of(module, layout.dtype)
    except ValueError as error:  # a module that the code of then could not lay out
        raise Damaged(f"not a state of this model: {error}") from error
    if old.slots == layout.slots:
        return found
    kinds = parts.engine.clients.first
    whole = {"server row"} | {f"clients row {k}" for k, v in kinds.items() if v == "model"}
    if parts.personal.span[1] > layout.trained:  # whole rows, not a last layer
        whole.add("tuned rows")
    moved = {n: _moved(old, layout, module, t, n) for n, t in found.tensors.items() if n in whole}
    return replace(found, tensors=found.tensors | moved)


def _moved(
    old: FlatLayout, layout: FlatLayout, module: nn.Module, rows: Tensor, name: str
) -> Tensor:
    """Rows [..., S] of the old layout in the new one; what they lack is as the module has it."""
    if rows.shape[-1:] != (old.stride,) or rows.dtype != layout.dtype:
        raise Damaged(
            f"{name}: expected {layout.dtype} [..., {old.stride}]; found {rows.dtype} "
            f"{list(rows.shape)}"
        )
    fresh, constants = layout.flatten(module), old.flatten(module)
    made = fresh.expand(*rows.shape[:-1], -1).clone()
    now = {slot.name: slot for slot in layout.slots}
    for was in old.slots:
        part = rows[..., was.offset : was.stop]
        if was.name in now:
            made[..., now[was.name].offset : now[was.name].stop] = part
        else:
            _check_constant(was, constants[was.offset : was.stop], part)
    return made


def _check_constant(slot: Slot, ours: Tensor, found: Tensor) -> None:
    """A constant was averaged, which rounds it and changes it no further."""
    near = 64 * torch.finfo(ours.dtype).eps
    if not torch.allclose(found, ours.expand_as(found), near, near, equal_nan=True):
        raise Damaged(f"expected a state of model.{slot.name} as the model has it, found another")


def _contents(found: Saved) -> Contents:
    tensors = named(found["server"], *_clients(found["clients"]))
    if found["tuned"] is not None:
        slot = found["slot"]
        ids = (slot >= 0).nonzero()[:, 0]
        tensors |= {"tuned ids": ids, "tuned rows": found["tuned"][slot[ids]]}
    rows = Rows(Row(*cells) for cells in found["history"])
    state = found["stopped"], dict(found["scalars"]), tensors
    return Contents(None, None, rows, *state, run=dict(found["run"]))


def _clients(clients: Saved) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """(ids, rows, values) by client from rows by place, and values of everybody."""
    slot, rows, values = clients["slot"], clients["rows"], clients["values"]
    ids = (slot >= 0).nonzero()[:, 0]
    if not rows and values:  # who has taken part is not recorded
        ids = torch.arange(len(slot))
    at = slot[ids]
    if rows and len(ids) and sorted(at.tolist()) != list(range(len(ids))):
        raise Damaged("its table of clients' rows points to the same row twice, or to none")
    by_place = {name: t[at] for name, t in rows.items()}
    return ids, by_place, {name: t[ids] for name, t in values.items()}
