"""The command line. A command's imports wait until it is called: `--help` answers at once."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module

from .._version import __version__

# command -> (module, line of --help). A new command is a line here and a module with main().
COMMANDS = {
    "run": ("fedfast.cli.run", "train the algorithms of a config file and keep the results"),
    "resume": ("fedfast.cli.resume", "go on with a run that was stopped, or to more rounds"),
    "sweep": ("fedfast.cli.sweep", "train a grid of settings under several seeds, or search one"),
    "scale": ("fedfast.cli.scale", "what rounds take as clients, cohorts and ranks grow"),
    "partition": ("fedfast.cli.partition", "how a config's data are dealt to its clients"),
    "agreement": ("fedfast.cli.agreement", "how far clients of finished runs agree"),
    "sharpness": ("fedfast.cli.sharpness", "how sharp models of finished runs are"),
    "report": ("fedfast.cli.report", "figures of runs, and one page that holds them"),
    "reproduce": ("fedfast.cli.reproduce", "rows of published tables: theirs and ours"),
    "compare": (
        "fedfast.cli.compare",
        "runs beside each other: accuracies, rounds and bytes to a target",
    ),
    "hessian": ("fedfast.cli.hessian", "how sharp a run's models are: eigenvalues of the Hessian"),
    "landscape": ("fedfast.cli.landscape", "the loss around and between a run's models"),
    "explain": ("fedfast.cli.explain", "where clients' models look, and which classes they know"),
    "bench": ("fedfast.cli.bench", "what rounds cost: of every algorithm, with every metric"),
    "examples": ("fedfast.cli.examples", "the configs and scripts that come with fedfast"),
    "doctor": ("fedfast.cli.doctor", "what this machine offers, and how a model will be trained"),
}

HELP = """\
fedfast: sharpness-aware federated learning, simulated many clients at once

usage: fedfast COMMAND ...

commands
{commands}

  fedfast COMMAND --help    how to use a command
  fedfast --version         the version
  fedfast --install-completion [bash|zsh|fish]    TAB completes commands, flags and names
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0, 1 (failed), 2 (wrong use) or 130 (Ctrl-C)."""
    args = list(sys.argv[1:] if argv is None else argv)
    if argv is None and "_ARGCOMPLETE" in os.environ:  # the shell asks what may come next
        import_module("fedfast.cli.completion").answer()
    if not args or args[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS)) + 2
        lines = [f"  {name:{width}}{text}" for name, (_, text) in COMMANDS.items()]
        print(HELP.format(commands="\n".join(lines)), end="")
        return 0 if args else 2
    if args[0] in ("-V", "--version"):
        print(f"fedfast {__version__}")
        return 0
    if args[0] in ("--install-completion", "--show-completion"):
        shells: Callable[[list[str]], int] = import_module("fedfast.cli.shells").main
        return shells(args)
    if args[0] not in COMMANDS:
        near = get_close_matches(args[0], COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return fail(f"unknown command {args[0]!r}{hint} (commands: {', '.join(COMMANDS)})")
    if launched() and args[0] not in ("run", "resume"):
        if os.environ["RANK"] == "0":
            fail(f"{args[0]}: expected one process; torchrun has started several (run, resume)")
        return 2
    if os.getcwd() not in sys.path:  # `my_module:Name` in a config, as for `python -m`
        sys.path.append(os.getcwd())  # last: a file of the user's must not hide a library
    command: Callable[[list[str]], int] = import_module(COMMANDS[args[0]][0]).main
    try:
        return command(args[1:])
    except KeyboardInterrupt:  # a command that has something to save catches it itself
        return fail("interrupted", 130)
    except BrokenPipeError:  # `fedfast ... | head` closed our output: nobody reads on
        sys.stdout = None
        return 1


def opening(argv: Sequence[str], usage: str, first: str) -> int | None:
    """The exit status of a command that is asked for help alone, or not told its `first` argument:
    "the path of a config file"; None where it goes on."""
    if not argv or argv[0].startswith("-"):
        helped = bool(argv) and argv[0] in ("-h", "--help")
        print(usage, end="", file=sys.stdout if helped else sys.stderr)
        found = repr(argv[0]) if argv else "nothing"
        return 0 if helped else fail(f"expected {first} first, found {found}")
    if {"-h", "--help"} & set(argv):
        print(usage)
    return None


def launched() -> bool:
    """Whether this process is one of several that torchrun, or a scheduler like it, has started."""
    ranked = all(name in os.environ for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
    return ranked and os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1")


def fail(message: str, status: int = 2) -> int:
    """Says what is wrong on stderr, and gives the exit status.

    With FEDFAST_TRACEBACK=1 in the environment the traceback comes first: an error in a user's own
    model or algorithm is one line, which may be too little to find it.
    """
    if os.environ.get("FEDFAST_TRACEBACK") and sys.exc_info()[0]:
        traceback.print_exc()
    for line in message.splitlines():
        print(f"fedfast: {line}", file=sys.stderr)
    return status
