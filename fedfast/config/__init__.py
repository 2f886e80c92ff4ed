"""The configuration of a run: a YAML file, flags before it, checked whole before anything runs."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from .draft import Draft
from .schema import RunConfig
from .yaml_reader import ConfigError, Dumper

__all__ = ["ConfigError", "RunConfig", "load", "save"]


def load(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in `path`, with flags such as `["--partition.alpha", "0.1"]` before it.

    Where there is no file `path`, the example config of that name is taken: `load("quickstart")`.
    Every default is filled in, also `out` and the algorithms' parameters. Raises `ConfigError`
    (a ValueError) with one line per mistake. `--help` among the flags prints and exits, and tyro
    exits with status 2 where flags are no flags at all (a value too many or missing).
    """
    return Draft.read(path, overrides).config()


def save(config: RunConfig, path: str | Path, comment: str = "") -> None:
    """Writes a file that `load` reads back as the same configuration."""
    Path(path).write_text(dumps(config, comment), encoding="utf-8")


def dumps(config: RunConfig, comment: str = "") -> str:
    """The text of `save`."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    body = yaml.dump(config.model_dump(), Dumper=Dumper, sort_keys=False, width=100)
    return head + body
