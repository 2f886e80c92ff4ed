"""`fedfast resume RUN [--rounds N] [--field value ...]`: a run goes on as if it never stopped."""

from __future__ import annotations

from pathlib import Path

from . import fail, opening, sweep

USAGE = """\
usage: fedfast resume RUN [--field value ...]

Goes on with the run in the folder RUN, bit for bit as if it had never been stopped. RUN may also be
the folder of a sweep; then the flags are those of `fedfast sweep`.

  --rounds N   to another number of rounds, at least those that are done
  --field value   where and how it is computed, tested, saved and logged may change too: threads,
                  chunk, device, backend, memory, eval_every, eval_last, metric, callbacks, ...
  fedfast resume RUN --help   every field, with its value in RUN
"""


def main(argv: list[str]) -> int:
    """Runs the command; see `fedfast.cli.main` for the exit status."""
    from .. import config as configs

    if (status := opening(argv, USAGE, "a run folder")) is not None:
        return status
    path = Path(argv[0])
    if any(word.split("=")[0] == "--out" for word in argv):
        return fail("--out: a run goes on in its own folder")
    if not (path / "config.yaml").is_file():
        return fail(f"{path}: expected a run folder, found no config.yaml in it")
    try:
        if configs.load_kept(path / "config.yaml").sweep is not None:
            return sweep.main([str(path / "config.yaml"), *argv[1:], "--out", str(path)])
        config = configs.load(path / "config.yaml", argv[1:])
    except configs.ConfigError as error:
        return fail(str(error))
    from . import session

    command = " ".join(["fedfast resume", *argv])
    return session.run(config, path, path.resolve().name, command, "resume")
