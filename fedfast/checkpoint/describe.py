"""Values as JSON, so that two runs can be compared by name: fields of dataclasses, tensors by their
digest, functions by their name, code and what they hold."""

from __future__ import annotations

import dis
import functools
import hashlib
import math
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .container import digest

OURS = ("fedfast", "torch", "builtins", "numpy")  # whose classes' code is known by their versions
CODE = f"code under Python {sys.version_info[0]}.{sys.version_info[1]}"
DEPTH = 12


class _Walk(threading.local):
    """Functions and classes met so far: they refer to each other, and are described once."""

    met: set[int] | None = None


_WALK = _Walk()


@contextmanager
def _met(value: object) -> Iterator[bool]:
    """Whether the walk that the outermost block began has met `value` before."""
    outermost = _WALK.met is None
    met = _WALK.met = set() if _WALK.met is None else _WALK.met
    try:
        again = id(value) in met
        met.add(id(value))
        yield again
    finally:
        if outermost:
            _WALK.met = None


def describe(value: object, depth: int = 0) -> object:
    """What `value` is, in JSON. Objects are {"": class, field: ...}."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | np.generic):
        return _number(value)
    if isinstance(value, Tensor | np.ndarray):
        t = torch.as_tensor(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value)
        return f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)} {digest(t)}"
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if depth > DEPTH:  # objects that hold themselves
        return type(value).__qualname__
    if isinstance(value, Mapping):
        return {str(k): describe(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [describe(v, depth + 1) for v in value]
        return sorted(items, key=repr) if isinstance(value, set | frozenset) else items
    return _object(value, depth + 1)


def flat(value: object, name: str) -> dict[str, object]:
    """{"name": class, "name.field": ...} of a described value."""
    if not isinstance(value, dict):
        return {name: value}
    found = {name: value[""]} if "" in value else {}
    for key, inner in value.items():
        if key:
            found |= flat(inner, f"{name}.{key}")
    return found or {name: {}}


def _number(value: object) -> object:
    plain = value.item() if isinstance(value, np.generic) else value
    return repr(plain) if isinstance(plain, float) and not math.isfinite(plain) else plain


def _object(value: object, depth: int) -> dict[str, object]:
    if isinstance(value, functools.partial):
        inner = {"of": value.func, "args": value.args, "keywords": value.keywords}
        return {"": "partial", **{k: describe(v, depth) for k, v in inner.items()}}
    if isinstance(value, types.MethodType):
        inner = {"of": value.__func__, "self": value.__self__}
        return {"": value.__qualname__, **{k: describe(v, depth) for k, v in inner.items()}}
    if isinstance(value, types.FunctionType):
        return _function(value, depth)
    if isinstance(value, types.BuiltinFunctionType):
        return {"": value.__qualname__}
    if isinstance(value, type):
        return {"": value.__qualname__, **(class_code(value) if depth < DEPTH else {})}
    kind = type(value)
    made: dict[str, object] = {"": kind.__qualname__}
    made |= {name: describe(inner, depth) for name, inner in _attributes(value).items()}
    return made | class_code(kind)


def _attributes(value: object) -> dict[str, object]:
    """The attributes of an object, by name."""
    if is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    own = {k: v for k, v in getattr(value, "__dict__", {}).items() if not k.startswith("_")}
    if isinstance(value, nn.Module):
        own |= dict(value.named_parameters(recurse=False)) | dict(
            value.named_buffers(recurse=False)
        )
        own |= dict(value.named_children())
        own.pop("training", None)
    return own


def _function(value: types.FunctionType, depth: int) -> dict[str, object]:
    if str(value.__module__).split(".")[0] in OURS:
        return {"": value.__qualname__}
    with _met(value) as again:
        if again:
            return {"": value.__qualname__}
        inner = [c.cell_contents for c in value.__closure__ or () if not _empty(c)]
        return {
            "": value.__qualname__,
            "holds": describe([*inner, value.__defaults__, value.__kwdefaults__], depth),
            CODE: _code(value.__code__),
            **_globals(value, depth),
        }


def _globals(value: types.FunctionType, depth: int) -> dict[str, object]:
    """What a user's function reads of its module: weights, numbers, helpers of its own."""
    codes = [value.__code__]
    for code in codes:
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    steps = [step for code in codes for step in dis.get_instructions(code)]
    read = {s.argval for s in steps if s.opname == "LOAD_GLOBAL"}
    read -= {s.argval for s in steps if s.opname == "STORE_GLOBAL"}  # what it counts itself
    values = {name: value.__globals__[name] for name in sorted(read) if name in value.__globals__}
    found = {n: describe(v, depth + 1) for n, v in values.items() if _lasting(v) and v is not value}
    return {"reads": found} if found else {}


def _lasting(value: object) -> bool:
    """Whether a global decides what a function does: not modules, nor parts of torch or ours."""
    if isinstance(value, types.ModuleType | types.BuiltinFunctionType):
        return False
    if isinstance(value, type | types.FunctionType):
        return str(value.__module__).split(".")[0] not in OURS
    return True


def _empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is cell  # reading an empty one raises
    except ValueError:
        return True


def class_code(kind: type) -> dict[str, str]:
    """The code of a class that is a user's own, those of its bases included."""
    users = [c for c in kind.__mro__ if c.__module__.split(".")[0] not in OURS]
    with _met(kind) as again:
        if again or not users:
            return {}
        members = [
            f"{name} {_member(c, inner)}"
            for c in users
            for name, inner in sorted(vars(c).items())
            if not (name.startswith("__") and not isinstance(inner, types.FunctionType))
            and name not in ("_abc_impl", "__dataclass_fields__")
        ]
        return {CODE: hashlib.sha256("\n".join(members).encode()).hexdigest()}


def _member(owner: type, value: object) -> str:
    """A method, a property or a value of a class."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property | functools.cached_property):
        parts = getattr(value, "func", None), *(getattr(value, n, None) for n in ("fget", "fset"))
        return repr([_member(owner, f) for f in parts if f is not None])
    if isinstance(value, types.FunctionType):
        # Written by `dataclass` where its name is not the class's: the fields describe it.
        if not value.__qualname__.startswith(owner.__qualname__):
            return ""
        return f"{_code(value.__code__)} {_globals(value, 1)}"
    return "" if isinstance(value, types.MemberDescriptorType) else repr(describe(value, 1))


def _code(code: types.CodeType) -> str:
    """A digest of what a function does, not of its place in a file."""
    inner = [_constant(c) for c in code.co_consts]
    text = "\n".join([code.co_code.hex(), repr(code.co_names), *inner])
    return hashlib.sha256(text.encode()).hexdigest()


def _constant(value: object) -> str:
    if isinstance(value, types.CodeType):
        return _code(value)
    # A set's order differs from one process to the next.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
