"""The configuration of a run: a YAML file, flags before it, checked whole before anything runs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from .._messages import path_of
from . import short_forms
from .component_options import parameters
from .errors import explain
from .fields import Loc
from .schema import RunConfig
from .sections import AlgorithmSection, ModelSection, section
from .yaml_reader import ConfigError, Dumper, Where, read

__all__ = ["ConfigError", "RunConfig", "load", "save"]


def load(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in `path`, with flags such as `["--partition.alpha", "0.1"]` before it.

    Every default is filled in, also `out` and the algorithms' parameters. Raises `ConfigError`
    (a ValueError) with one line per mistake. `--help` among the flags prints and exits, and tyro
    exits with status 2 where flags are no flags at all (a value too many or missing).
    """
    from . import flags

    path = path_of("path", path)
    raw, where = short_forms.in_file(path, *read(path))
    raw, given = flags.apply(path, raw, overrides)
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, path, raw, where, given)) from None
    for loc, what in _contradictions(config):
        raise ConfigError(f"{_place(path, where, given, loc)}: {'.'.join(loc)}: {what}")
    algorithms = {
        label: _resolved(label, section, _place(path, where, given, ("algorithms", label)))
        for label, section in config.algorithms.items()
    }
    out = config.out or str(Path("runs") / path.stem)
    return config.model_copy(update={"out": out, "algorithms": algorithms})


def save(config: RunConfig, path: str | Path, comment: str = "") -> None:
    """Writes a file that `load` reads back as the same configuration."""
    Path(path).write_text(dumps(config, comment), encoding="utf-8")


def dumps(config: RunConfig, comment: str = "") -> str:
    """The text of `save`."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    body = yaml.dump(config.model_dump(), Dumper=Dumper, sort_keys=False, width=100)
    return head + body


def model_options(name: str, tokens: Sequence[str]) -> dict[str, object]:
    """Keyword arguments of the model `name` from flags such as `["--depth", "4"]`, every default
    filled in. Raises ConfigError for what it does not take, and for a wrong type."""
    from . import flags

    prefixed = [token.replace("--", "--model.", 1) for token in tokens]
    path, raw = Path(name), dict[str, object](model={"name": name})
    raw, given = flags.apply(path, raw, prefixed)
    try:
        made = section(ModelSection, raw["model"]).model_validate(raw["model"])
    except ValidationError as error:
        errors = explain(error, path, raw, {}, given, ("model",))
        raise ConfigError(errors.replace("--model.", "--")) from None
    return made.options()


def _contradictions(config: RunConfig) -> Iterator[tuple[Loc, str]]:
    """Fields that are right one by one and wrong together."""
    if isinstance(config.lr, dict) and config.lr_decay != 1.0:
        yield ("lr_decay",), "lr is a schedule and decides alone; leave it at 1"
    if config.data.pool and config.data.holdout is not None:
        yield ("data", "holdout"), "pool leaves no test set to replace; give one of the two"
    if config.data.pool and config.local_test is None:
        yield ("data", "pool"), "leaves no test set but the clients' own; give local_test too"
    if config.paper and (wrong := config.paper.forgotten(config.algorithms)):
        yield ("paper",), wrong


def _place(path: Path, where: Where, given: Mapping[Loc, str], loc: Loc) -> str:
    """Where a section was written, and the flags that changed it."""
    flags = [flag for at, flag in given.items() if at[: len(loc)] == loc]
    line = f":{where[loc]}" if loc in where else ""
    return f"{path}{line}" + "".join(f" with {flag}" for flag in flags)


def _resolved(label: str, section: AlgorithmSection, place: str) -> AlgorithmSection:
    """The section with every parameter's value, once the algorithm has accepted them."""
    try:
        full: dict[str, object] = parameters(section.name, **section.options())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place}: algorithms.{label}: {error}") from error
    return AlgorithmSection(name=section.name, **section.options() | full)
