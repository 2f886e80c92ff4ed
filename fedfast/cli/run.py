"""`fedfast run CONFIG [--field value ...]`: each algorithm of the file, all else equal."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .. import example_files
from . import fail, opening

if TYPE_CHECKING:
    from ..runs.opening import Mode

USAGE = """\
usage: fedfast run CONFIG [--resume | --fresh] [--profile] [--field value ...]

  --resume    go on with the run that is in the run folder, or begin it
  --fresh     begin anew; a run that is in the folder is moved to NAME.previous
  --profile   keep where the time goes: profile/LABEL.json in the run folder, for ui.perfetto.dev

  fedfast run CONFIG --help   every field, with its value in CONFIG
  fedfast run --help          every field, with its default
"""
SWITCHES = ("--resume", "--fresh", "--profile")


def main(argv: list[str]) -> int:
    """Runs the command; see `fedfast.cli.main` for the exit status."""
    from .. import config as configs

    if argv and argv[0] in ("-h", "--help"):
        return _fields()
    if (status := opening(argv, USAGE, "the path of a config file")) is not None:
        return status
    flags = [word for word in argv[1:] if word not in SWITCHES]
    if {"--resume", "--fresh"} <= set(argv):
        return fail("--resume, --fresh: expected one of the two, found both")
    mode: Mode = "resume" if "--resume" in argv else "fresh" if "--fresh" in argv else "new"
    try:
        config = configs.load(argv[0], flags)
    except configs.ConfigError as error:
        return fail(str(error))
    from . import session

    if config.sweep is not None:
        print(f"the config as it is; `fedfast sweep {argv[0]}` runs what its section `sweep` says")
        config = config.model_copy(update={"sweep": None})
    name = example_files.stem(argv[0])
    command = " ".join(["fedfast run", *argv])
    return session.run(config, config.out or name, name, command, mode, "--profile" in argv)


def _fields() -> int:
    """The help without a file: every field with its default, then tyro's exit."""
    from ..config import flags

    print(USAGE)
    with suppress(SystemExit):
        flags.apply(Path("CONFIG"), {}, ["--help"])
    return 0
