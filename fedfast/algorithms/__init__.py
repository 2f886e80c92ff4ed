"""One paper per file; an algorithm is a frozen dataclass of its paper's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .._names import unknown
from .base import Algorithm, Direction, LocalState
from .fedavg import FedAvg
from .fedopt import FedAdagrad, FedAdam, FedAvgM, FedYogi
from .fedsam import FedASAM, FedSAM
from .optimizers import ASAM, OPTIMIZERS, SAM, SGD, Optimizer

PAGES: dict[str, type[Algorithm]] = {
    page.name: page for page in (FedAvg, FedSAM, FedASAM, FedAvgM, FedAdagrad, FedAdam, FedYogi)
}


def names() -> tuple[str, ...]:
    """The names `by_name` knows."""
    return tuple(PAGES)


def by_name(name: str, **parameters: Any) -> Algorithm:
    """An algorithm from its name and parameters, as a config writes them.

    `local` may be an optimizer object, its name, or a mapping `{name: sam, rho: 0.05}`.
    Raises ValueError for an unknown name or parameter (with the nearest known one) or a bad value.
    """
    if name not in PAGES:
        raise unknown("algorithm", name, PAGES)
    if "local" in parameters:
        parameters["local"] = _optimizer(parameters["local"])
    return _make(f"algorithm {name}", PAGES[name], parameters)


def _optimizer(value: Any) -> Any:
    if isinstance(value, SGD):
        return value
    if not isinstance(value, (str, Mapping)):
        raise TypeError(f"local: expected an optimizer, its name or a mapping; got {value!r}")
    spec = {"name": value} if isinstance(value, str) else dict(value)
    name = spec.pop("name", "sgd")
    if name not in OPTIMIZERS:
        raise unknown("local optimizer", name, OPTIMIZERS)
    return _make(f"local optimizer {name}", OPTIMIZERS[name], spec)


def _make(kind: str, page: type[Any], parameters: Mapping[str, Any]) -> Any:
    known = [f.name for f in fields(page) if f.init]
    for parameter in parameters:
        if parameter not in known:
            raise unknown(f"{kind}, parameter", parameter, known)
    return page(**parameters)


__all__ = [
    "ASAM",
    "PAGES",
    "SAM",
    "SGD",
    "Algorithm",
    "Direction",
    "FedASAM",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedSAM",
    "FedYogi",
    "LocalState",
    "Optimizer",
    "by_name",
    "names",
]
