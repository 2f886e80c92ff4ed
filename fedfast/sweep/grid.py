"""The rows of a sweep: every combination of the grid's values, for each label and seed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import yaml

from ..config import ConfigError, RunConfig
from ..config.draft import Draft
from ..config.fields import Loc
from ..config.flags import field
from ..config.yaml_reader import Dumper, value

# Fields that a sweep sets itself, and what to use in their place.
TAKEN = {"seed": "--seeds", "out": "--out"}
LONGEST = 180  # bytes of a folder's name, of the 255 that file systems take
UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


@dataclass(frozen=True)
class Axis:
    """One field and the values it takes.

    place  what messages begin with: `--grid partition.alpha`, or file, line and field
    """

    loc: Loc
    values: tuple[object, ...]
    place: str

    @property
    def name(self) -> str:
        """`partition.alpha`."""
        return ".".join(self.loc)

    @property
    def label(self) -> str:
        """The only label that the field changes; "" where it changes all of them."""
        return self.loc[1] if self.loc[0] == "algorithms" else ""


@dataclass(frozen=True)
class SweepRow:
    """One run: one label under one combination of values and one seed, in a folder of its own.

    config  with these values and this seed, and no other label
    """

    values: Mapping[str, object]
    label: str
    config: RunConfig
    folder: Path

    @property
    def seed(self) -> int:
        """Of weights, cohorts, batches and, unless it has its own, the partition."""
        return self.config.seed

    @property
    def combination(self) -> str:
        """`partition.alpha=0.1,rounds=20`, "" where there is no grid."""
        return ",".join(f"{name}={text(found)}" for name, found in self.values.items())

    def __str__(self) -> str:
        return " ".join(filter(None, (self.combination, self.label, f"seed {self.seed}")))


def listed(flag: str, given: str) -> list[object]:
    """The values of `a,b`, each read as the file would read it: `0.1,null,[64, 64]`.

    Raises ConfigError naming the `flag` where they are no list.
    """
    found = value(f"[{given}]")
    if not isinstance(found, list):
        raise ConfigError(f"{flag}: expected values with commas between them, found {given!r}")
    return found


def axis(draft: Draft, name: str, values: Sequence[object], place: str) -> Axis:
    """The axis of a field. Raises ConfigError for a name that no field has, with the nearest."""
    if name in TAKEN:
        raise ConfigError(f"{place}: is not part of a grid; use {TAKEN[name]}")
    try:
        leaf = field(name, draft.raw)
    except ConfigError as error:
        raise ConfigError(f"{place}: {str(error).split(': ', 1)[1]}") from None
    many = isinstance(leaf.default, list)  # as for flags, 64 is the list [64]
    made = [[v] if many and not isinstance(v, list) else v for v in values]
    return Axis(leaf.loc, tuple(made), place)


def rows(draft: Draft, axes: Sequence[Axis], seeds: Sequence[int], out: Path) -> list[SweepRow]:
    """Every row, checked. An axis below one label leaves the others' rows as they are.

    Rows that share data, partition and initial weights stand together.
    Raises ConfigError with a line for each value that its field does not take.
    """
    check_values(draft, axes)
    shared = [a for a in axes if not a.label]
    labels = list(draft.config().algorithms)
    made = []
    for values in _combinations(shared):
        cells = [
            (label, own, checked(draft, axes, values | own))
            for label in labels
            for own in _combinations([a for a in axes if a.label == label])
        ]
        made += [
            row(config, label, names(values | own), seed, out)
            for seed in seeds
            for label, own, config in cells
        ]
    return made


def row(
    config: RunConfig, label: str, values: Mapping[str, object], seed: int, out: Path
) -> SweepRow:
    """The row of one label and seed of a checked configuration, on one thread by default."""
    alone = config.alone(label, seed).model_copy(update={"threads": config.threads or 1})
    folder = out / combination_folder(values) / label / f"seed-{seed}"
    return SweepRow(values, label, alone, folder)


def names(values: Mapping[Loc, object]) -> dict[str, object]:
    """Values by the dotted names of their fields, in an order that no order of flags changes."""
    named = {".".join(loc): found for loc, found in values.items()}
    return {k: named[k] for k in sorted(named, key=lambda k: (k.startswith("algorithms."), k))}


def text(found: object) -> str:
    """A value in one line, as flags and files have it."""
    shown: str = yaml.dump(found, Dumper=Dumper, default_flow_style=True, width=10**6)
    return shown.removesuffix("\n").removesuffix("\n...").replace(", ", ",")


def combination_folder(values: Mapping[str, object]) -> str:
    """The folder's name: the combination as far as file systems and shells take it.

    What is left out comes back as a digest, so that other values have other folders.
    """
    name = ",".join(f"{key}={_file_name(text(found))}" for key, found in values.items())
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{_digest(name)}"


def _file_name(shown: str) -> str:
    safe = UNSAFE.sub("-", shown).strip("-")
    numbers = re.fullmatch(r"\[\d+(\.\d+)?(,\d+(\.\d+)?)*\]", shown)  # 64-64 says it all
    return safe if safe == shown or numbers else f"{safe}-{_digest(shown)}".lstrip("-")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _combinations(axes: Sequence[Axis]) -> Iterator[dict[Loc, object]]:
    for values in product(*(a.values for a in axes)):
        yield dict(zip((a.loc for a in axes), values, strict=True))


def check_values(draft: Draft, axes: Sequence[Axis]) -> None:
    """Tries every value once, all else as it is. Raises ConfigError with all mistakes."""
    wrong: dict[str, None] = {}
    for one in axes:
        for found in one.values:
            try:
                checked(draft, axes, {one.loc: found})
            except ConfigError as error:
                wrong[str(error)] = None
    if wrong:
        raise ConfigError("\n".join(wrong))


def checked(draft: Draft, axes: Sequence[Axis], values: Mapping[Loc, object]) -> RunConfig:
    """The configuration with these values; messages name the axis that a value is of."""
    shown = {a.loc: f"{a.place}={text(values[a.loc])}" for a in axes if a.loc in values}
    return draft.config(values, shown)
