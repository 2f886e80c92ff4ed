"""The configuration of a run: a YAML file, flags before it, checked whole before anything runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from .draft import Draft
from .errors import explain
from .fields import Loc
from .schema import RunConfig
from .sections import ModelSection, section
from .yaml_reader import ConfigError, Dumper

__all__ = ["ConfigError", "RunConfig", "load", "load_kept", "save"]

# Fields that name what watches a run and leave it alone: what they name need not be there any more.
WATCHING: Mapping[Loc, object] = {("callbacks",): [], ("loggers",): []}


def load(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in `path`, with flags such as `["--partition.alpha", "0.1"]` before it.

    Where there is no file `path`, the example config of that name is taken: `load("quickstart")`.
    Every default is filled in, also `out` and the algorithms' parameters. Raises `ConfigError`
    (a ValueError) with one line per mistake. `--help` among the flags prints and exits, and tyro
    exits with status 2 where flags are no flags at all (a value too many or missing).
    """
    return Draft.read(path, overrides).config()


def load_kept(path: str | Path) -> RunConfig:
    """The configuration that a run has left in its folder, but for its callbacks and loggers.

    Raises what `load` raises.
    """
    return Draft.read(path).config(WATCHING)


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
