"""The options of models, partitions, readers and algorithms: names, types, defaults, help."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field
from pydantic.fields import FieldInfo

ENTRY = re.compile(r"(\w+(?:, \w+)*)(  +)(\S.*)")  # "alpha, beta   what they are"
BOUNDS = ("gt", "ge", "lt", "le")


def plain(found: Any) -> bool:
    """Whether YAML can hold the value and give it back."""
    if isinstance(found, list | tuple):
        return all(plain(item) for item in found)
    return found is None or isinstance(found, bool | int | float | str)


def parameters(name: str, **given: Any) -> dict[str, Any]:
    """The parameters of the algorithm `name` and their values, those that YAML can hold.

    Raises what `algorithms.by_name` raises for an unknown name or a bad value.
    """
    from fedfast import algorithms

    return _values(algorithms.by_name(name, **given))


def schedule_parameters(given: dict[str, Any]) -> dict[str, Any]:
    """A schedule's name and every field. Raises what `algorithms.schedule` raises."""
    from fedfast import algorithms

    made = algorithms.schedule(given)
    return {"name": algorithms.name_of(made), **_values(made)}


def known(label: str, given: dict[str, Any]) -> dict[str, Any]:
    """The algorithm's parameters; what is wrong with them is reported when it is made."""
    name = str(given.get("name", label))
    options = {str(key): value for key, value in given.items() if key != "name"}
    for attempt in (options, {}):
        try:
            return parameters(name, **attempt)
        except (ValueError, TypeError):
            continue
    return {}


def about(name: str) -> str:
    """The first line of the docstring of the algorithm `name`."""
    from fedfast import algorithms

    try:
        return (inspect.getdoc(type(algorithms.by_name(name))) or "").split("\n")[0]
    except (ValueError, TypeError):
        return ""


def help_of_parameters(name: str) -> dict[str, str]:
    """The texts in the docstrings of the algorithm `name` and of the classes that it extends."""
    from fedfast import algorithms

    try:
        classes = reversed(algorithms.ALGORITHMS.find(name).__mro__)
    except (ValueError, TypeError):
        return {}
    return {key: text for cls in classes for key, text in texts(cls.__doc__).items()}


def texts(doc: str | None) -> dict[str, str]:
    """Name -> text of the lines `name   text` of a docstring, with those that continue them."""
    found: dict[str, str] = {}
    names: list[str] = []
    column = 0
    for line in inspect.cleandoc(doc or "").splitlines():
        if entry := ENTRY.match(line):
            names, column = entry[1].split(", "), entry.start(3)
            found |= dict.fromkeys(names, entry[3])
        elif names and line.startswith(" " * column):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return found


def fields_of(function: Callable[..., Any], own: Collection[str]) -> dict[str, tuple[Any, Any]]:
    """name -> (type, field) for pydantic, of the parameters of a function or class but its `own`.

    A parameter may be annotated with bounds and help: `Annotated[int, Count(), "clients in all"]`;
    help may also come from the docstring.
    """
    hints, help = _hints(function), texts(function.__doc__)
    variable = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    return {
        name: _field(hints.get(name), parameter.default, help.get(name, ""))
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in own and parameter.kind not in variable
    }


def takes_more(function: Callable[..., Any]) -> bool:
    """Whether it has `**options`."""
    kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    owner = function.__init__ if isinstance(function, type) else function
    try:
        return get_type_hints(owner, include_extras=True)
    except Exception:  # names that exist for type checkers only
        return {}


def _field(hint: Any, default: Any, help: str) -> tuple[Any, FieldInfo]:
    needed = default is inspect.Parameter.empty
    if hint is None and not needed and default is not None:
        hint = list[type(default[0])] if isinstance(default, tuple) and default else type(default)
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    bounds = {
        bound: getattr(note, bound)
        for note in notes
        for bound in BOUNDS
        if getattr(note, bound, None) is not None
    }
    help = next((note for note in notes if isinstance(note, str)), help)
    value = list(default) if isinstance(default, tuple) else default
    field = Field(description=help) if needed else Field(value, description=help)
    return _yaml_type(hint, bounds), field


def _yaml_type(hint: Any, bounds: dict[str, Any]) -> Any:
    """What YAML can hold of a type: every sequence is a list, what is not known is anything."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _yaml_type(inner[0], bounds)
    if origin in (Union, UnionType):
        kinds = [_yaml_type(kind, bounds) for kind in inner]
        return Any if Any in kinds else Union[tuple(kinds)]  # noqa: UP007
    if origin in (list, tuple, Sequence):
        item = _yaml_type(inner[0], bounds) if inner else Any
        return list[item]  # type: ignore[valid-type]
    if hint in (int, float):
        finite = {"allow_inf_nan": False} if hint is float else {}
        return Annotated[hint, Field(**bounds, **finite)]
    return hint if origin is Literal or hint in (bool, str, NoneType) else Any


def _values(made: Any) -> dict[str, Any]:
    from fedfast import algorithms

    found = {f.name: getattr(made, f.name) for f in dataclasses.fields(made) if f.init}
    for key, part in found.items():
        if dataclasses.is_dataclass(part) and (name := algorithms.name_of(part)):
            found[key] = {"name": name, **_values(part)}
        elif isinstance(part, tuple):
            found[key] = list(part)
    return {key: value for key, value in found.items() if isinstance(value, dict) or plain(value)}
