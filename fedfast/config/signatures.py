"""Fields of a configuration's section from the signature of the function that the section names."""

import inspect
import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import is_dataclass
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field

from .option_values import ANYTHING, kind_of, made, plain, written

ENTRY = re.compile(r"(\w+(?:, \w+)*)(  +)(\S.*)")  # "alpha, beta   what they are"
INLINE = re.compile(r"\b(\w+): (.+?)(?=\.(?:\s|$)|; \w+: |$)")  # "alpha: what it is. beta: ..."
NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
BOUNDS = ("gt", "ge", "lt", "le")
Convert = Callable[[Any], object]
Fields = dict[str, Any]  # name -> (type, field), as pydantic's `create_model` takes them


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
    hints, help, given = _hints(function), texts(function.__doc__), _parameters(function)
    return {
        name: _field(hints.get(name, kind_of(given[name].default)), default, help.get(name, ""))
        for name, default in _defaults(function).items()
        if name not in own and (default is inspect.Parameter.empty or plain(default))
    }


def converters(function: Callable[..., object]) -> dict[str, Convert]:
    """Parameter -> what makes its value of YAML's: members of an `Enum`, `Path`s, tuples."""
    hints, given = _hints(function), _parameters(function)
    kinds = {name: hints.get(name, kind_of(parameter.default)) for name, parameter in given.items()}
    return {name: partial(made, kind) for name, kind in kinds.items() if kind is not ANYTHING}


def _parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """Those that are given by name; what begins with "_" is private."""
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in NAMED and not name.startswith("_")
    }


def _defaults(function: Callable[..., object]) -> dict[str, object]:
    """Parameter -> default as YAML has it."""
    return {name: written(p.default) for name, p in _parameters(function).items()}


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
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    bounds = {
        bound: getattr(note, bound)
        for note in notes
        for bound in BOUNDS
        if getattr(note, bound, None) is not None
    }
    help = next((note for note in notes if isinstance(note, str)), help)
    if isinstance(default, float) and not math.isfinite(default):
        bounds["allow_inf_nan"] = True  # or the default could not be written down
    needed = default is inspect.Parameter.empty
    kind = _yaml_type(hint, bounds)
    if default is None and kind is not ANYTHING:  # `depth: int = None`
        kind = Union[tuple((kind, NoneType))]  # noqa: C409, UP007
    return kind, Field(... if needed else default, description=help)


def _yaml_type(hint: object, bounds: dict[str, Any]) -> object:
    """What YAML can hold of a type: every sequence is a list, what is not known is anything."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _yaml_type(inner[0], bounds)
    if origin in (Union, UnionType):
        kinds = [_yaml_type(kind, bounds) for kind in inner]
        return ANYTHING if ANYTHING in kinds else Union[tuple(kinds)]  # noqa: UP007
    if origin in (list, tuple, Sequence) or hint in (list, tuple):
        of = [_yaml_type(kind, bounds) for kind in inner if kind is not ...] or [ANYTHING]
        item = ANYTHING if ANYTHING in of else Union[tuple(of)]  # noqa: UP007
        return list[item]  # type: ignore[valid-type]
    if hint in (int, float):
        finite = bounds.get("allow_inf_nan", False) if hint is float else None
        return Annotated[hint, Field(**bounds | {"allow_inf_nan": finite})]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Literal[tuple(hint.__members__)]
    if isinstance(hint, type) and issubclass(hint, PurePath):
        return str
    return hint if origin is Literal or hint in (bool, str, NoneType) else ANYTHING
