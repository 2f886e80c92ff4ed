"""What the shell is answered when TAB is pressed: commands, files, examples, flags of a config.

The shell's part is argcomplete's; `parser` gives it what may follow the words typed so far. Torch
is never imported here: there are 300 ms.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from . import COMMANDS, flag_table

FLAG = re.compile(r"(?<![\w-])--([a-z][\w-]*)")
FRONT = ("--help", "--version", "--install-completion", "--show-completion")
SHELLS = ("bash", "zsh", "fish")
VARIED = ("grid", "search")  # flags of `fedfast sweep` whose values begin with a field


def answer() -> None:
    """Answers the shell that has asked through the environment, and ends the process."""
    import argcomplete

    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    words = argcomplete.split_line(line, point)[3][int(os.environ["_ARGCOMPLETE"]) :]
    argcomplete.autocomplete(parser(words), always_complete_options=False)


def parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """What may follow `words`, those before the word that is being completed."""
    if not words or words[0] in FRONT:
        made = _parser()
        made.add_argument("command", choices=list(COMMANDS))
        for flag in FRONT:
            made.add_argument(flag, nargs="?", choices=SHELLS)
        return made
    made = _parser()
    made.add_argument("command")
    if words[0] not in COMMANDS:
        return made
    config = words[1] if len(words) > 1 and not words[1].startswith("-") else ""
    raw = _raw(config) if config else {}
    of_sweep = words[0] == "resume" and "sweep" in raw  # takes the flags of `fedfast sweep`
    module = import_module(COMMANDS["sweep" if of_sweep else words[0]][0])
    _positional(made, words, module.USAGE)
    flags: flag_table.Options = {flag: [] for flag in (*FLAG.findall(module.USAGE), "help")}
    flags.update(getattr(module, "CHOICES", {}))
    if "--field" in module.USAGE:
        fields = config_flags(config)
        flags = {**flags, **fields, **{f: [f"{n}=" for n in fields] for f in VARIED if f in flags}}
        flags.pop("field", None)
    _add_flags(made, flags)
    return made


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser("fedfast", add_help=False, allow_abbrev=False)


def _positional(made: argparse.ArgumentParser, words: Sequence[str], usage: str) -> None:
    from argcomplete.completers import FilesCompleter

    from ..example_files import names

    argument = made.add_argument("paths", nargs="*")
    takes_config = "CONFIG" in usage and len(words) == 1
    files = FilesCompleter(["yaml", "yml"] if takes_config else ())
    known = names()
    configs = [n for n, path in known.items() if path.suffix == ".yaml"]
    folders = {f"{above.as_posix()}/" for n in known for above in Path(n).parents[:-1]}

    def complete(prefix: str, **_: object) -> list[str]:
        if words[0] == "bench":
            return ["algorithms"] if len(words) == 1 else []
        if words[0] == "examples":
            return _next(known if words[1:2] == ["copy"] else ["copy", *folders], prefix)
        offered = configs if takes_config or words[0] == "reproduce" else []
        return [*files(prefix), *_next(offered, prefix)]

    argument.completer = complete  # type: ignore[attr-defined]


def _next(names: Iterable[str], prefix: str) -> list[str]:
    """The names that begin so, cut after the next folder, as the shell completes files."""
    cut = len(prefix)
    found = {n[: n.find("/", cut) + 1] or n for n in names if n.startswith(prefix)}
    return sorted(found - {prefix} or found)


def _add_flags(made: argparse.ArgumentParser, flags: flag_table.Options) -> None:
    from argcomplete.completers import ChoicesCompleter

    for name, values in flags.items():
        argument = made.add_argument(f"--{name}", nargs="?", dest=f"flag {name}")
        if values:
            choices = ChoicesCompleter(dict.fromkeys(values, ""))
            argument.completer = choices  # type: ignore[attr-defined]


def config_flags(config: str) -> flag_table.Options:
    """The flags of a config file, an example or a run folder: its own and those of its parts."""
    raw, table = _raw(config), flag_table.read()
    flags: flag_table.Options = {}
    for path in _paths(raw):
        flags[path] = []
    flags.update(table.get("run", {}).get("", {}))
    for section in flag_table.NAMED:
        name = _name(raw.get(section), {"partition": "dirichlet"}.get(section, ""))
        _below(flags, section, table.get(section, {}), name)
    labels = raw.get("algorithms")
    for label, given in labels.items() if isinstance(labels, dict) else ():
        _below(flags, f"algorithms.{label}", table.get("algorithms", {}), _name(given, str(label)))
    return flags


def _below(
    flags: flag_table.Options, at: str, known: dict[str, flag_table.Options], name: str
) -> None:
    options = known.get(name, {"name": sorted(known)})
    flags.update({f"{at}.{option}": values for option, values in options.items()})


def _raw(config: str) -> dict[str, object]:
    import yaml

    from ..example_files import config_file

    path = Path(config)
    path = path / "config.yaml" if path.is_dir() else config_file(path)  # of a run folder
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _name(section: object, default: str) -> str:
    return str(section.get("name", default)) if isinstance(section, dict) else default


def _paths(raw: dict[str, object], above: str = "") -> Iterable[str]:
    """The paths of the values in a file; published values and a sweep are no settings."""
    for key, value in raw.items():
        if isinstance(value, dict) and (above or key not in ("paper", "sweep")):
            yield from _paths(value, f"{above}{key}.")
        elif not isinstance(value, dict):
            yield f"{above}{key}"
