"""The options of models and algorithms: names, defaults, descriptions."""

import dataclasses
import inspect
from typing import Any


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
    return {"name": made.name, **_values(made)}


def fits(found: object, like: object) -> bool:
    """Whether a value is of the kind of the default `like`; a default None fits anything."""
    if like is None:
        return True
    if isinstance(like, list):
        return isinstance(found, list) and all(fits(item, (like or [None])[0]) for item in found)
    if isinstance(found, bool) or isinstance(like, bool):
        return isinstance(found, bool) and isinstance(like, bool)
    return isinstance(found, int | float if isinstance(like, float) else type(like))


def model_options(name: str) -> dict[str, object] | None:
    """The options of the model `name` and their defaults; None where they are not known."""
    from fedfast import models

    maker = getattr(models, name.replace("-", "_"), None)  # "resnet18-gn" is resnet18_gn
    if not inspect.isfunction(maker):
        return None
    given = list(inspect.signature(maker).parameters.values())[2:]  # after input_shape and classes
    if any(p.kind is p.VAR_KEYWORD for p in given):
        return None
    defaults = {p.name: p.default for p in given if p.default is not p.empty}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in defaults.items()}


def _values(made: Any) -> dict[str, object]:
    found = {f.name: getattr(made, f.name) for f in dataclasses.fields(made) if f.init}
    for key, part in found.items():
        if dataclasses.is_dataclass(part) and hasattr(part, "name"):
            found[key] = {"name": part.name, **_values(part)}
        elif isinstance(part, tuple):
            found[key] = list(part)
    return {key: value for key, value in found.items() if isinstance(value, dict) or plain(value)}


def known(label: str, given: dict[str, object]) -> dict[str, object]:
    """The algorithm's parameters; wrong ones are reported when it is made."""
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
