"""The fields one file has: those of the schema, and those its model and algorithms bring along."""

import dataclasses
import inspect
import types
from collections.abc import Collection, Container, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from . import component_options
from .schema import RunConfig
from .sections import (
    DataSection,
    LossSection,
    ModelSection,
    NamedSection,
    PartitionSection,
    registry,
    section,
)

Loc = tuple[str, ...]
NAMED: dict[str, type[NamedSection]] = {
    "data": DataSection,
    "partition": PartitionSection,
    "model": ModelSection,
    "loss": LossSection,
}
DEFAULTS = {"partition": {"name": "dirichlet"}, "loss": {"name": "cross_entropy"}}


class Needed:
    """Stands for the value of a field that has no default."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One field: its path, the kind of value, one sentence, the value now."""

    loc: Loc
    metavar: str
    help: str
    default: object

    def copy(self) -> object:
        """A default of its own for each use: lists are mutable."""
        return deepcopy(self.default)


def leaves(raw: dict[str, object]) -> list[Leaf]:
    """Every field of the file `raw`, in the order of the schema: sections first, as files have."""
    algorithms = at(raw, ("algorithms",))
    labels = algorithms if isinstance(algorithms, dict) else {}
    return [
        *(leaf for name in NAMED for leaf in _of_model(section_at(name, raw), (name,), raw)),
        *(leaf for label in labels for leaf in _of_algorithm(str(label), raw)),
        *_of_model(RunConfig, (), raw),
    ]


def section_at(which: str, raw: dict[str, object]) -> type[NamedSection]:
    """The section of data, partition or model, with the options of what `raw` names there."""
    base, given = NAMED[which], raw.get(which)
    default = DEFAULTS.get(which, {})
    for attempt in (given, default):
        try:
            return section(base, attempt or default)
        except (ValueError, TypeError):  # reported when the file is checked
            continue
    return base


def kept(which: str, name: str) -> Collection[str]:
    """The options that stay when the name in the section `which` changes to `name`."""
    if which not in ("data", "partition"):
        return ()
    return set(section_at(which, {which: {"name": name}}).model_fields) - {"name"}


def is_open(loc: Loc, raw: dict[str, object]) -> bool:
    """Whether a model, an algorithm or a schedule decides which keys are below `loc`."""
    if loc == ("lr",):
        return isinstance(at(raw, loc), dict)
    depth = {"model": 1, "loss": 1, "algorithms": 2}.get(loc[0], len(loc) + 1)
    if len(loc) < depth:
        return False
    labels = at(raw, loc[:1])
    if depth == 2 and not (isinstance(labels, Container) and loc[1] in labels):
        return False
    return len(loc) == depth or isinstance(at(raw, loc), dict)


def expand(raw: dict[str, object]) -> dict[str, object]:
    """`raw` with each algorithm's parts (a local optimizer) written out: flags reach inside."""
    algorithms = at(raw, ("algorithms",))
    if not isinstance(algorithms, dict):
        return raw
    labels = {}
    for label, given in algorithms.items():
        own = given or {}
        if not isinstance(own, dict):
            labels[label] = given  # the schema will refuse it
            continue
        known = component_options.known(str(label), own)
        inner = {key: value for key, value in known.items() if isinstance(value, dict)}
        written = {key: _written_out(own.get(key), value) for key, value in inner.items()}
        labels[label] = {**own, **written} if inner else given
    return {**raw, "algorithms": labels}


def _written_out(given: object, full: dict[str, object]) -> object:
    """A part as it was given, with the fields that it lacks; what is wrong with it stays."""
    if given is None:
        return full
    if not isinstance(given, dict) or given.get("name") != full.get("name"):
        return given
    return {**full, **given}


def title(loc: Loc, raw: dict[str, object]) -> str:
    """What a section is, for the help text."""
    if not loc:
        return "One run."
    if len(loc) == 1:
        return str(RunConfig.model_fields[loc[0]].description)
    return component_options.about(_name(loc, raw)) if len(loc) == 2 else ""


def at(raw: object, loc: Loc) -> object:
    """The value at `loc`, None where there is none."""
    for part in loc:
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw


def _of_algorithm(label: str, raw: dict[str, object]) -> list[Leaf]:
    loc = ("algorithms", label)
    given = at(raw, loc)
    given = given if isinstance(given, dict) else {}
    head = Leaf((*loc, "name"), "STR", "algorithm", given.get("name", label))
    every = {**component_options.known(label, given), **given}
    help = component_options.help_of_parameters(str(head.default))
    return [head, *_extras(loc, {k: v for k, v in every.items() if k != "name"}, help)]


def _name(loc: Loc, raw: dict[str, object]) -> str:
    """The algorithm of the label at `loc`: that of its name, or of the label itself."""
    given = at(raw, loc)
    return str(given.get("name", loc[-1]) if isinstance(given, dict) else loc[-1])


def _extras(loc: Loc, found: object, help: Mapping[str, str] = MappingProxyType({})) -> list[Leaf]:
    """Fields known only by their values, also those within values."""
    made: list[Leaf] = []
    for key, value in found.items() if isinstance(found, dict) else ():
        here, text = (*loc, str(key)), help.get(str(key), "")
        if isinstance(value, dict) and value:
            inner = component_options.help_of_parameters(str(value.get("name")), str(key))
            made += _extras(here, value, inner)
        else:
            made.append(Leaf(here, _kind_of(value), text, value))
    return made


def _of_model(model: type[BaseModel], above: Loc, raw: dict[str, object]) -> list[Leaf]:
    made: list[Leaf] = []
    for name, field in model.model_fields.items():
        if not above and name in (*NAMED, "algorithms", "paper", "sweep"):
            continue  # sections of their own; published values and a grid are no setting
        found = at(raw, above)
        default = Needed() if field.is_required() else field.default
        if isinstance(found, dict) and name in found:
            default = found[name]
        if isinstance(default, dict):  # a schedule in place of a number
            made += _extras((*above, name), default)
            continue
        kind = _metavar(field.annotation)
        text = field.description or ""
        if name == "name" and above[0] in NAMED:
            text = f"{text}: {', '.join(registry(NAMED[above[0]]))} or package.module:Name"
        made.append(Leaf((*above, name), kind, text, default))
    return made


def _metavar(kind: object) -> str:
    """INT, FLOAT, `{a,b}`, and `|null` where null is allowed."""
    origin = get_origin(kind)
    if origin is dict:
        return "SCHEDULE"
    if origin in (list, Annotated):
        return _metavar(get_args(kind)[0])
    if origin is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    if origin in (Union, types.UnionType):
        return "|".join(_metavar(part) for part in get_args(kind))
    return "null" if kind is type(None) else kind.__name__.upper() if inspect.isclass(kind) else "?"


def _kind_of(found: object) -> str:
    """The metavar of a field known only by its value."""
    if isinstance(found, list | tuple) and found:
        return _kind_of(found[0])
    return {bool: "{true,false}", int: "INT", float: "FLOAT", str: "STR"}.get(type(found), "VALUE")
