"""The configuration of a run: a YAML file, flags before it, checked whole before anything runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .errors import explain
from .reading import ConfigError, dumper, read
from .schema import AlgorithmSection, RunConfig

__all__ = ["ConfigError", "RunConfig", "load", "save"]


def load(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in `path`, with flags such as `["--partition.alpha", "0.1"]` before it.

    Every default is filled in, also `out` and the algorithms' parameters. Raises `ConfigError`
    (a ValueError) with one line per mistake. `--help` among the flags prints and exits, and tyro
    exits with status 2 where flags are no flags at all (a value too many or missing).
    """
    from . import flags

    path = Path(path)
    raw, where = read(path)
    raw, given = flags.apply(path, raw, overrides)
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, path, raw, where, given)) from None
    algorithms = {
        label: _resolved(label, section, f"{path}:{where.get(('algorithms', label), 1)}")
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
    body = yaml.dump(config.model_dump(), Dumper=dumper(), sort_keys=False, width=100)
    return head + body


def _resolved(label: str, section: AlgorithmSection, place: str) -> AlgorithmSection:
    """The section with every parameter's value, once the algorithm has accepted them."""
    from .fields import parameters

    try:
        full: dict[str, Any] = parameters(section.name, **section.options())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place}: algorithms.{label}: {error}") from error
    return AlgorithmSection(name=section.name, **section.options() | full)
