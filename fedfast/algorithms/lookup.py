"""`by_name`: an algorithm from its name and parameters, as a configuration file has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from typing import TypeVar

from .._messages import format_value, unknown
from ..lr_schedules import SCHEDULES
from ..registry import Registry
from ._hook_checks import Hooked
from .base import ALGORITHMS, Algorithm
from .drift import DRIFTS, Drift
from .finetune import FINE_TUNINGS, FineTune
from .optimizers import OPTIMIZERS, Optimizer
from .servers import SERVER_RULES, ServerRule

V = TypeVar("V")

# Names that a paper made known, but that nobody can implement from what is public.
_WITHOUT_SOURCE = {
    "plgu": "its radii per layer are described in an abstract only, there is no paper or code to "
    "implement it from; fedfsa is the closest algorithm that there is a source for",
}

# parameter -> where its names are found, its class, and the name where a mapping has none
_COMPONENTS: dict[str, tuple[Registry[type[Hooked]], type[Hooked], str]] = {
    "local": (OPTIMIZERS, Optimizer, "sgd"),
    "drift": (DRIFTS, Drift, "none"),
    "server": (SERVER_RULES, ServerRule, "average"),
    "fine_tune": (FINE_TUNINGS, FineTune, "fine-tune"),
}


def names() -> tuple[str, ...]:
    """The names of the built-in and registered algorithms."""
    return tuple(ALGORITHMS)


def by_name(name: str, **parameters: object) -> Algorithm:
    """An algorithm from its name, or `package.module:Name`, and its parameters.

    `local`, `drift` and `server` may be an object, a name, or a mapping `{name: sam, rho: 0.05}`;
    `fine_tune` may be None, an object or a mapping `{epochs: 10}`; a parameter that changes over
    rounds may be a mapping `{name: ramp, start: 0, ...}`.
    Raises ValueError for an unknown name or parameter (with the nearest known one) or a bad value.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected the name of an algorithm; got {format_value(name)}")
    if name in _WITHOUT_SOURCE:
        raise ValueError(f"algorithm {name}: {_WITHOUT_SOURCE[name]}")
    for part in _COMPONENTS:
        if parameters.get(part) is not None:
            parameters[part] = _component(part, parameters[part])
    return _make(f"algorithm {name}", ALGORITHMS.find(name), parameters)


def schedule(given: str | Mapping[str, object]) -> Callable[[int], float]:
    """A schedule from `{name: cosine, start: 0.1, rounds: 300}`, as a config writes it.

    Raises ValueError for an unknown name or field, ValueError/TypeError for a bad value.
    """
    if not isinstance(given, (str, Mapping)):
        raise TypeError(
            f"given: expected a schedule's name or a mapping; got {format_value(given)}"
        )
    return _named(given, SCHEDULES, "ramp")


def registry_of(part: str) -> Registry[type[Hooked]]:
    """Where the names of a component are known; of algorithms for "". KeyError for other parts."""
    return _COMPONENTS[part][0] if part else ALGORITHMS


def name_of(made: object) -> str | None:
    """The name of a component's or a schedule's class, as `by_name` takes it; None for others."""
    for registry, base, _ in _COMPONENTS.values():
        if isinstance(made, base):
            return registry.name_of(type(made))
    named = is_dataclass(made) and callable(made)
    return SCHEDULES.name_of(type(made)) if named else None


def _component(part: str, value: object) -> object:
    registry, base, default = _COMPONENTS[part]
    if isinstance(value, base):
        return value
    if not isinstance(value, (str, Mapping)):
        kind = "an optimizer" if part == "local" else f"a {registry.kind}"
        found = format_value(value)
        raise TypeError(f"{part}: expected {kind}, its name or a mapping; got {found}")
    with _of(part):
        return _named(value, registry, default)


def _named(
    value: str | Mapping[str, object], registry: Registry[Callable[..., V]], default: str
) -> V:
    """An object from `name` or `{name: ..., parameters}`."""
    spec = {"name": value} if isinstance(value, str) else dict(value)
    name = spec.pop("name", default)
    return _make(f"{registry.kind} {name}", registry.find(name), spec)


def _make(kind: str, cls: Callable[..., V], parameters: Mapping[str, object]) -> V:
    """`cls(**parameters)`, mappings made schedules. ValueError for unknown or missing fields."""
    declared = [f for f in fields(cls) if f.init]  # type: ignore[arg-type]  # a dataclass
    known = [f.name for f in declared]
    for parameter in parameters:
        if parameter not in known:
            raise unknown(f"{kind}, parameter", parameter, known)
    for field in declared:
        needed = field.default is MISSING and field.default_factory is MISSING
        if needed and field.name not in parameters:
            raise ValueError(f"{kind}: needs {field.name}")
    given = dict(parameters)
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            with _of(key):
                given[key] = schedule(value)
    return cls(**given)


@contextmanager
def _of(parameter: str) -> Iterator[None]:
    """Errors name the parameter whose value is made."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{parameter}: {error}") from error
