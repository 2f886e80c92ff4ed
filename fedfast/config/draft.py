"""A file and its flags before they are checked: a sweep checks it once for each combination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from .. import example_files
from .._messages import path_of
from . import short_forms
from .component_options import parameters
from .errors import explain
from .fields import Loc
from .schema import RunConfig
from .sections import AlgorithmSection
from .yaml_reader import ConfigError, Where, read

NOTHING: Mapping[Loc, object] = MappingProxyType({})


@dataclass(frozen=True)
class Draft:
    """What was written.

    raw    the file's mapping, with the flags' values in place
    where  the line of each of its keys
    given  the fields that flags gave, as they were spelt
    """

    path: Path
    raw: dict[str, object]
    where: Where
    given: dict[Loc, str]

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> Draft:
        """The file and its flags. Raises what `fedfast.config.load` raises for either."""
        from . import flags

        path = example_files.config_file(path_of("path", path))
        raw, where = short_forms.in_file(path, *read(path))
        raw, given = flags.apply(path, raw, overrides)
        return cls(path, raw, where, given)

    def config(
        self, values: Mapping[Loc, object] = NOTHING, places: Mapping[Loc, str] | None = None
    ) -> RunConfig:
        """The checked configuration, with other `values` of some fields.

        places  what messages about these fields begin with: "--grid partition.alpha=0"
        Raises ConfigError with one line per mistake.
        """
        from . import flags

        raw = flags.assign(self.raw, values) if values else self.raw
        given = {**self.given, **(places or {})}
        try:
            config = RunConfig.model_validate(raw)
        except ValidationError as error:
            raise ConfigError(explain(error, self.path, raw, self.where, given)) from None
        for loc, what in _contradictions(config):
            raise ConfigError(f"{self._place(given, loc)}: {'.'.join(loc)}: {what}")
        algorithms = {
            label: _resolved(label, section, self._place(given, ("algorithms", label)))
            for label, section in config.algorithms.items()
        }
        out = config.out or str(Path("runs") / self.path.stem)
        return config.model_copy(update={"out": out, "algorithms": algorithms})

    def _place(self, given: Mapping[Loc, str], loc: Loc) -> str:
        """Where a section was written, and the flags that changed it."""
        flags = [flag for at, flag in given.items() if at[: len(loc)] == loc]
        line = f":{self.where[loc]}" if loc in self.where else ""
        return f"{self.path}{line}" + "".join(f" with {flag}" for flag in flags)


def _contradictions(config: RunConfig) -> Iterator[tuple[Loc, str]]:
    """Fields that are right one by one and wrong together."""
    if isinstance(config.lr, dict) and config.lr_decay != 1.0:
        yield ("lr_decay",), "lr is a schedule and decides alone; leave it at 1"
    if config.data.pool and config.data.holdout is not None:
        yield ("data", "holdout"), "pool leaves no test set to replace; give one of the two"
    if config.data.pool and config.local_test is None:
        yield ("data", "pool"), "leaves no test set but the clients' own; give local_test too"
    if config.sweep and config.sweep.grid and config.sweep.search:
        yield ("sweep", "search"), "there is a grid too; a sweep has one of the two"
    if config.paper and (wrong := config.paper.forgotten(config.algorithms)):
        yield ("paper",), wrong


def _resolved(label: str, section: AlgorithmSection, place: str) -> AlgorithmSection:
    """The section with every parameter's value, once the algorithm has accepted them."""
    try:
        full: dict[str, object] = parameters(section.name, **section.options())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place}: algorithms.{label}: {error}") from error
    return AlgorithmSection(name=section.name, **section.options() | full)
