"""The parameters of algorithms: names, values, what they are for."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..own_modules import refused
from .option_values import plain
from .signatures import texts

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PARTS = ("local", "drift", "server")


def parameters(name: str, **given: object) -> dict[str, object]:
    """The parameters of the algorithm `name` and their values, those that YAML can hold.

    Components that its class makes of its other parameters are not among them.
    Raises ValueError for an unknown name or a bad value, where a user's own class fails, and for a
    component that the class replaces.
    """
    from fedfast import algorithms

    with refused(""):
        made = algorithms.by_name(name, **given)
        for part in [part for part in _PARTS if part in given]:
            if _ignores(name, given, part, getattr(made, part)):
                raise ValueError(f"{part}: {name} makes its own of its parameters; leave it out")
    derived = {part for part in _derived(made) if part not in given}
    return {key: value for key, value in _values(made).items() if key not in derived}


def _ignores(name: str, given: Mapping[str, object], part: str, found: object) -> bool:
    """Whether the component `found` is not the given one, but that of an algorithm without it.

    One that is refined is neither: FedGloSS lets the radius of a local SAM rise.
    """
    from fedfast import algorithms

    asked = algorithms.by_name("fedavg", **{part: given[part]})
    if getattr(asked, part) == found:
        return False
    rest = {key: value for key, value in given.items() if key != part}
    return bool(getattr(algorithms.by_name(name, **rest), part) == found)


def _derived(made: DataclassInstance) -> list[str]:
    """Components that are not what the class has where nothing is given."""
    return [
        field.name
        for field in dataclasses.fields(made)
        if field.name in _PARTS
        and field.default_factory is not dataclasses.MISSING
        and getattr(made, field.name) != field.default_factory()
    ]


def schedule_parameters(given: dict[str, object]) -> dict[str, object]:
    """A schedule's name and every field. ValueError for what is none."""
    from fedfast import algorithms

    with refused(""):
        made = algorithms.schedule(given)
    assert dataclasses.is_dataclass(made)
    return {"name": algorithms.name_of(made), **_values(made)}


def known(label: str, given: Mapping[str, object]) -> dict[str, object]:
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
        with refused(""):
            return (inspect.getdoc(type(algorithms.by_name(name))) or "").split("\n")[0]
    except (ValueError, TypeError):
        return ""


def help_of_parameters(name: str, part: str = "") -> dict[str, str]:
    """The texts in the docstrings of an algorithm, or of the component that is its `part`.

    What an algorithm's class does not document, the classes of its components may.
    """
    from fedfast import algorithms

    try:
        cls = algorithms.registry_of(part).find(name)
        with refused(""):
            components = cls().components if issubclass(cls, algorithms.Algorithm) else ()
    except (ValueError, TypeError, KeyError):
        return {}
    # Not the base: an algorithm's `momentum` may be another than the local optimizer's.
    ours = [c for made in components for c in _classes(made) if c is not algorithms.Optimizer]
    return {key: text for c in (*ours, *_classes(cls)) for key, text in texts(c.__doc__).items()}


def _classes(of: object) -> list[type]:
    """The class of an object, or the class, after all that it extends."""
    return list(reversed((of if isinstance(of, type) else type(of)).__mro__))


def _values(made: DataclassInstance) -> dict[str, object]:
    from fedfast import algorithms

    names = [field.name for field in dataclasses.fields(made) if field.init]
    found: dict[str, object] = {name: getattr(made, name) for name in names}
    for key, part in found.items():
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            if name := algorithms.name_of(part):
                found[key] = {"name": name, **_values(part)}
        elif isinstance(part, tuple):
            found[key] = list(part)
    return {key: value for key, value in found.items() if isinstance(value, dict) or plain(value)}
