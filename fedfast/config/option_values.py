"""Values of options as YAML has them, and as the user's function is given them."""

import inspect
from collections.abc import Mapping
from enum import Enum
from pathlib import Path, PurePath
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

ANYTHING: object = Any  # as an annotation: pydantic accepts every value


def plain(found: object) -> bool:
    """Whether YAML can hold the value and give it back."""
    if isinstance(found, list | tuple):
        return all(plain(item) for item in found)
    if isinstance(found, dict):
        return all(isinstance(key, str) and plain(item) for key, item in found.items())
    return found is None or isinstance(found, bool | int | float | str)


def written(default: object) -> object:
    """A default as YAML has it."""
    if isinstance(default, Enum):
        return default.name
    if isinstance(default, list | tuple):
        return [written(item) for item in default]
    return str(default) if isinstance(default, PurePath) else default


def kind_of(default: object) -> object:
    """The type that a default shows."""
    if default is None or default is inspect.Parameter.empty:
        return ANYTHING
    return PurePath if isinstance(default, PurePath) else type(default)


def made(hint: object, value: object) -> object:
    """What a parameter of this type is given for a value of YAML."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return made(inner[0], value)
    if origin in (Union, UnionType):
        each = (made(kind, value) for kind in inner)
        return next((one for one in each if type(one) is not type(value) or one != value), value)
    if isinstance(value, list):
        return _sequence(origin or hint, inner, value)
    if isinstance(value, dict) and origin in (dict, Mapping):
        return {key: made(inner[1], item) for key, item in value.items()}
    if isinstance(value, str) and origin is None and isinstance(hint, type):
        if issubclass(hint, Enum):
            return hint.__members__.get(value, value)
        if issubclass(hint, PurePath):
            return Path(value) if hint is PurePath else hint(value)
    return value


def _sequence(kind: object, inner: tuple[object, ...], value: list[object]) -> object:
    """A list's items made, as a tuple where that is the type."""
    if kind is tuple and len(inner) > 1 and inner[1] is not ...:
        return tuple(made(inner[min(i, len(inner) - 1)], v) for i, v in enumerate(value))
    items = [made(inner[0], item) for item in value] if inner else value
    return tuple(items) if kind is tuple else items
