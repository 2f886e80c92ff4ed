"""The parameters of algorithms: names, values, what they are for."""

import dataclasses
import inspect
from typing import Any

from .signatures import texts


def plain(found: object) -> bool:
    """Whether YAML can hold the value and give it back."""
    if isinstance(found, list | tuple):
        return all(plain(item) for item in found)
    return found is None or isinstance(found, bool | int | float | str)


def parameters(name: str, **given: object) -> dict[str, object]:
    """The parameters of the algorithm `name` and their values, those that YAML can hold.

    Raises what `algorithms.by_name` raises for an unknown name or a bad value.
    """
    from fedfast import algorithms

    return _values(algorithms.by_name(name, **given))


def schedule_parameters(given: dict[str, object]) -> dict[str, object]:
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


def help_of_parameters(name: str, part: str = "") -> dict[str, str]:
    """The texts in the docstrings of an algorithm, or of the component that is its `part`.

    What an algorithm's class does not document, the classes of its components may.
    """
    from fedfast import algorithms

    try:
        cls = algorithms.registry_of(part).find(name)
        components = () if part else cls().components
    except (ValueError, TypeError, KeyError):
        return {}
    # Not the base: an algorithm's `momentum` may be another than the local optimizer's.
    ours = [c for made in components for c in _classes(made) if c is not algorithms.Optimizer]
    return {key: text for c in (*ours, *_classes(cls)) for key, text in texts(c.__doc__).items()}


def _classes(of: object) -> list[type]:
    """The class of an object, or the class, after all that it extends."""
    return list(reversed((of if isinstance(of, type) else type(of)).__mro__))


def _values(made: Any) -> dict[str, Any]:
    from fedfast import algorithms

    found = {f.name: getattr(made, f.name) for f in dataclasses.fields(made) if f.init}
    for key, part in found.items():
        if dataclasses.is_dataclass(part) and (name := algorithms.name_of(part)):
            found[key] = {"name": name, **_values(part)}
        elif isinstance(part, tuple):
            found[key] = list(part)
    return {key: value for key, value in found.items() if isinstance(value, dict) or plain(value)}
