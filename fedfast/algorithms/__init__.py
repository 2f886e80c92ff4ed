"""One paper per file; an algorithm is a frozen dataclass of its paper's parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Any

from .._messages import format_value, unknown
from ..lr_schedules import SCHEDULES, Cosine, Exponential, Ramp, Schedule
from .base import Algorithm
from .centralized import Centralized
from .drift import Drift
from .fedala import FedALA
from .fedavg import FedAvg
from .fedavgft import FedAvgFT
from .fedcm import ClientMomentum, FedCM, MoFedSAM
from .fedcr import BottleneckSGD, FedCR
from .feddyn import Dual, FedDyn
from .fedfsa import FSA, FedFSA, OfficialMomentum
from .fedgh import FedGH, Harmonized
from .fedgloss import EpochDual, FedGloSS, NaiveFedGloSS, RehearsedSAM, ServerSAM
from .fedlesam import LESAM, FedLESAM, FedLESAMD, FedLESAMS
from .fednsam import FedNSAM, FedNSAMSingle, LookAhead, Nesterov
from .fedopt import Adagrad, Adam, FedAdagrad, FedAdam, FedAvgM, FedYogi, Momentum, Yogi
from .fedprox import FedProx, Prox
from .fedsagm import SAGM, FedSAGM
from .fedsam import FedASAM, FedSAM
from .fedsgd import FedSGD
from .fedsmoo import ConsensusSAM, FedSMOO
from .fedsol import FedSOL, ProximalSAM
from .fedspeed import ExtraSAM, FedSpeed
from .fedwmsam import FedWMSAM, GuidedSAM, WeightedMomentum
from .finetune import FineTune
from .hooks import Clients, Cohort, Direction, Layout, Piece, Server, Sum
from .optimizers import ASAM, SAM, SGD, Optimizer
from .scaffold import SCAFFOLD, ControlVariate, FedGAMMA
from .servers import Average, ServerRule

_PAGES: tuple[type[Algorithm], ...] = (
    Centralized,
    FedSGD,
    FedAvg,
    FedAvgM,
    FedAdagrad,
    FedAdam,
    FedYogi,
    FedProx,
    FedCM,
    SCAFFOLD,
    FedDyn,
    FedSAM,
    FedASAM,
    MoFedSAM,
    FedSAGM,
    FedSpeed,
    FedGAMMA,
    FedSMOO,
    FedLESAM,
    FedLESAMS,
    FedLESAMD,
    NaiveFedGloSS,
    FedGloSS,
    FedFSA,
    FedNSAM,
    FedNSAMSingle,
    FedWMSAM,
    FedGH,
    FedAvgFT,
    FedALA,
    FedCR,
    FedSOL,
)
PAGES: dict[str, type[Algorithm]] = {page.name: page for page in _PAGES}

_OPTIMIZERS: tuple[type[Optimizer], ...] = (
    SGD,
    SAM,
    ASAM,
    SAGM,
    ExtraSAM,
    ConsensusSAM,
    LESAM,
    LookAhead,
    FSA,
    GuidedSAM,
    BottleneckSGD,
    ProximalSAM,
)
OPTIMIZERS: dict[str, type[Optimizer]] = {o.name: o for o in _OPTIMIZERS}

_DRIFTS: tuple[type[Drift], ...] = (
    Drift,
    Prox,
    ClientMomentum,
    OfficialMomentum,
    ControlVariate,
    Dual,
    EpochDual,
    WeightedMomentum,
)
DRIFTS: dict[str, type[Drift]] = {d.name: d for d in _DRIFTS}

_RULES: tuple[type[ServerRule], ...] = (
    Average,
    Momentum,
    Adam,
    Yogi,
    Adagrad,
    Nesterov,
    ServerSAM,
    RehearsedSAM,
    Harmonized,
)
RULES: dict[str, type[ServerRule]] = {r.name: r for r in _RULES}

# Names that a paper made known, but that nobody can implement from what is public.
_WITHOUT_SOURCE = {
    "plgu": "its radii per layer are described in an abstract only, there is no paper or code to "
    "implement it from; fedfsa is the closest algorithm that there is a source for",
}

_PIECES: dict[str, tuple[str, type[Any], Mapping[str, type[Any]]]] = {
    "local": ("local optimizer", Optimizer, OPTIMIZERS),
    "drift": ("drift correction", Drift, DRIFTS),
    "server": ("server rule", ServerRule, RULES),
    "fine_tune": ("fine-tuning", FineTune, {FineTune.name: FineTune}),
}


def names() -> tuple[str, ...]:
    """The names `by_name` knows."""
    return tuple(PAGES)


def by_name(name: str, **parameters: Any) -> Algorithm:
    """An algorithm from its name and parameters, as a config writes them.

    `local`, `drift` and `server` may be an object, a name, or a mapping `{name: sam, rho: 0.05}`;
    `fine_tune` may be None, an object or a mapping `{epochs: 10}`; a parameter that changes over
    rounds may be a mapping `{name: ramp, start: 0, ...}`.
    Raises ValueError for an unknown name or parameter (with the nearest known one) or a bad value.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected the name of an algorithm; got {format_value(name)}")
    if name in _WITHOUT_SOURCE:
        raise ValueError(f"algorithm {name}: {_WITHOUT_SOURCE[name]}")
    if name not in PAGES:
        raise unknown("algorithm", name, PAGES)
    for part in _PIECES:
        if parameters.get(part) is not None:
            parameters[part] = _piece(part, parameters[part])
    return _make(f"algorithm {name}", PAGES[name], parameters)


def schedule(given: str | Mapping[str, Any]) -> Schedule:
    """A schedule from `{name: cosine, start: 0.1, rounds: 300}`, as a config writes it.

    Raises ValueError for an unknown name or field, ValueError/TypeError for a bad value.
    """
    if not isinstance(given, (str, Mapping)):
        raise TypeError(
            f"given: expected a schedule's name or a mapping; got {format_value(given)}"
        )
    return _named("schedule", given, SCHEDULES)


def _piece(part: str, value: Any) -> Any:
    kind, base, known = _PIECES[part]
    if isinstance(value, base):
        return value
    if not isinstance(value, (str, Mapping)):
        raise TypeError(
            f"{part}: expected {_a(kind)}, its name or a mapping; got {format_value(value)}"
        )
    with _of(part):
        return _named(kind, value, known)


def _a(kind: str) -> str:
    return "an optimizer" if kind == "local optimizer" else f"a {kind}"


def _named(kind: str, value: str | Mapping[str, Any], known: Mapping[str, type[Any]]) -> Any:
    """An object from `name` or `{name: ..., parameters}`."""
    spec = {"name": value} if isinstance(value, str) else dict(value)
    name = spec.pop("name", next(iter(known)))
    if not isinstance(name, str) or name not in known:
        raise unknown(kind, name, known)
    return _make(f"{kind} {name}", known[name], spec)


def _make(kind: str, page: type[Any], parameters: Mapping[str, Any]) -> Any:
    known = [f.name for f in fields(page) if f.init]
    for parameter in parameters:
        if parameter not in known:
            raise unknown(f"{kind}, parameter", parameter, known)
    for field in fields(page):
        needed = field.default is MISSING and field.default_factory is MISSING
        if field.init and needed and field.name not in parameters:
            raise ValueError(f"{kind}: needs {field.name}")
    given = dict(parameters)
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            with _of(key):
                given[key] = schedule(value)
    return page(**given)


@contextmanager
def _of(parameter: str) -> Iterator[None]:
    """Errors name the parameter whose value is made."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{parameter}: {error}") from error


__all__ = [
    "ProximalSAM",
    "FineTune",
    "FedSOL",
    "FedCR",
    "FedAvgFT",
    "FedALA",
    "BottleneckSGD",
    "ASAM",
    "Adagrad",
    "Adam",
    "Algorithm",
    "Average",
    "Centralized",
    "ClientMomentum",
    "Clients",
    "Cohort",
    "ConsensusSAM",
    "ControlVariate",
    "Cosine",
    "DRIFTS",
    "Direction",
    "Drift",
    "Dual",
    "EpochDual",
    "Exponential",
    "ExtraSAM",
    "FSA",
    "FedASAM",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedCM",
    "FedDyn",
    "FedFSA",
    "FedGAMMA",
    "FedGH",
    "FedGloSS",
    "FedLESAM",
    "FedLESAMD",
    "FedLESAMS",
    "FedNSAM",
    "FedNSAMSingle",
    "FedProx",
    "FedSAGM",
    "FedSAM",
    "FedSGD",
    "FedSMOO",
    "FedSpeed",
    "FedWMSAM",
    "FedYogi",
    "LESAM",
    "GuidedSAM",
    "Harmonized",
    "Layout",
    "LookAhead",
    "MoFedSAM",
    "Momentum",
    "NaiveFedGloSS",
    "Nesterov",
    "OPTIMIZERS",
    "OfficialMomentum",
    "Optimizer",
    "PAGES",
    "Piece",
    "Prox",
    "RULES",
    "Ramp",
    "RehearsedSAM",
    "SAGM",
    "SAM",
    "SCAFFOLD",
    "SGD",
    "Server",
    "ServerRule",
    "ServerSAM",
    "Sum",
    "WeightedMomentum",
    "Yogi",
    "by_name",
    "names",
    "schedule",
]
