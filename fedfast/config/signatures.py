"""Fields of a configuration's section from the signature of the function that the section names."""

import inspect
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import is_dataclass
from enum import Enum
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field

ENTRY = re.compile(r"(\w+(?:, \w+)*)(  +)(\S.*)")  # "alpha, beta   what they are"
INLINE = re.compile(r"\b(\w+): (.+?)(?=\.(?:\s|$)|; \w+: |$)")  # "alpha: what it is. beta: ..."
ANYTHING: object = Any  # as an annotation: pydantic accepts every value
BOUNDS = ("gt", "ge", "lt", "le")
Convert = Callable[[Any], object]
Fields = dict[str, Any]  # name -> (type, field), as pydantic's `create_model` takes them


def plain(found: object) -> bool:
    """Whether YAML can hold the value and give it back."""
    if isinstance(found, list | tuple):
        return all(plain(item) for item in found)
    if isinstance(found, dict):
        return all(isinstance(key, str) and plain(item) for key, item in found.items())
    return found is None or isinstance(found, bool | int | float | str)


def texts(doc: str | None) -> dict[str, str]:
    """Name -> text of what a docstring has as `name: text` or as a line `name   text`."""
    lines = inspect.cleandoc(doc or "").splitlines()
    found = dict(INLINE.findall(" ".join(lines)))
    names: list[str] = []
    column = 0
    for line in lines:
        if entry := ENTRY.match(line):
            names, column = entry[1].split(", "), entry.start(3)
            found |= dict.fromkeys(names, entry[3])
        elif names and line.startswith(" " * column):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return found


def fields_of(function: Callable[..., object], own: Collection[str]) -> Fields:
    """name -> (type, field) for pydantic, of the parameters of a function or class but its `own`.

    A parameter may be annotated with bounds and help: `Annotated[int, Count(), "clients in all"]`;
    help may also come from the docstring. A default that YAML cannot hold (a class, a function)
    leaves its parameter to Python.
    """
    hints, help = _hints(function), texts(function.__doc__)
    return {
        name: _field(hints.get(name), default, help.get(name, ""))
        for name, default in _defaults(function).items()
        if name not in own and (default is inspect.Parameter.empty or plain(default))
    }


def converters(function: Callable[..., object]) -> dict[str, Convert]:
    """Parameter -> what makes its value of YAML's: an `Enum`'s member of its name, a `Path`."""
    hints = _hints(function)
    found = {name: _converted(hints.get(name)) for name in _defaults(function)}
    return {name: make for name, make in found.items() if make}


def _defaults(function: Callable[..., object]) -> dict[str, object]:
    """Parameter -> default as YAML has it, of those that are given by name."""
    variable = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    return {
        name: _written(parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in variable
    }


def _written(default: object) -> object:
    if isinstance(default, Enum):
        return default.name
    return str(default) if isinstance(default, PurePath) else default


def _converted(hint: object) -> Convert | None:
    """Of `Color`, `Color | None`, `Annotated[Path, ...]`."""
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind.__getitem__
        if isinstance(kind, type) and issubclass(kind, PurePath):
            return kind
    return None


def takes_more(function: Callable[..., object]) -> bool:
    """Whether it has `**options`."""
    kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds


def _hints(function: Callable[..., object]) -> dict[str, object]:
    owner: object = function
    if isinstance(function, type) and not is_dataclass(function):
        owner = vars(function).get("__init__", function)
    try:
        return get_type_hints(owner, include_extras=True)
    except Exception:  # names that exist for type checkers only
        return {}


def _field(hint: object, default: object, help: str) -> tuple[object, object]:
    if hint is None:
        hint = _type_of(default)
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    bounds = {
        bound: getattr(note, bound)
        for note in notes
        for bound in BOUNDS
        if getattr(note, bound, None) is not None
    }
    help = next((note for note in notes if isinstance(note, str)), help)
    value = list(default) if isinstance(default, tuple) else default
    needed = default is inspect.Parameter.empty
    kind = _yaml_type(hint, bounds)
    if default is None and kind is not ANYTHING:  # `depth: int = None`
        kind = Union[tuple((kind, NoneType))]  # noqa: C409, UP007
    return kind, Field(... if needed else value, description=help)


def _type_of(default: object) -> object:
    """The type of an argument that has no annotation, as far as its default shows it."""
    if default is None or default is inspect.Parameter.empty:
        return ANYTHING
    return type(default)


def _yaml_type(hint: object, bounds: dict[str, Any]) -> object:
    """What YAML can hold of a type: every sequence is a list, what is not known is anything."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _yaml_type(inner[0], bounds)
    if origin in (Union, UnionType):
        kinds = [_yaml_type(kind, bounds) for kind in inner]
        return ANYTHING if ANYTHING in kinds else Union[tuple(kinds)]  # noqa: UP007
    if origin in (list, tuple, Sequence) or hint in (list, tuple):
        item = _yaml_type(inner[0], bounds) if inner else ANYTHING
        return list[item]  # type: ignore[valid-type]
    if hint in (int, float):
        finite = False if hint is float else None
        return Annotated[hint, Field(**bounds, allow_inf_nan=finite)]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Literal[tuple(hint.__members__)]
    if isinstance(hint, type) and issubclass(hint, PurePath):
        return str
    return hint if origin is Literal or hint in (bool, str, NoneType) else ANYTHING
