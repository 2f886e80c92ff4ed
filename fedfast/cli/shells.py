"""`--show-completion` and `--install-completion`: the shell's own part of completing with TAB."""

from __future__ import annotations

import os
from pathlib import Path

from . import fail

# Where each shell looks, and the line of its start-up file that makes it look there.
SCRIPTS = {
    "bash": ".local/share/bash-completion/completions/fedfast",
    "zsh": ".zfunc/_fedfast",
    "fish": ".config/fish/completions/fedfast.fish",
}
LINES = {
    "bash": (".bashrc", "source ~/.local/share/bash-completion/completions/fedfast"),
    "zsh": (".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit"),
}


def main(argv: list[str]) -> int:
    """Runs `--show-completion [SHELL]` or `--install-completion [SHELL]`; 0, or 2."""
    shell = argv[1] if len(argv) > 1 else Path(os.environ.get("SHELL", "")).name
    if shell not in SCRIPTS or len(argv) > 2:
        return fail(f"{argv[0]}: expected {', '.join(SCRIPTS)}; found {shell or 'no $SHELL'!r}")
    if argv[0] == "--show-completion":
        print(script(shell))
        return 0
    try:
        install(shell, Path.home())
    except OSError as error:
        return fail(f"{argv[0]}: cannot write {error.filename}: {error.strerror}")
    return 0


def script(shell: str) -> str:
    """What the shell has to read, made by argcomplete."""
    from argcomplete import shellcode

    return shellcode(["fedfast"], shell=shell)


def install(shell: str, home: Path) -> None:
    """Puts the script where `shell` finds it, and a line into its start-up file, once."""
    from . import flag_table

    path = home / SCRIPTS[shell]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(shell), encoding="utf-8")
    print(path)
    if shell in LINES:
        startup, line = home / LINES[shell][0], LINES[shell][1]
        text = startup.read_text(encoding="utf-8") if startup.exists() else ""
        if line not in text.splitlines():
            with startup.open("a", encoding="utf-8") as file:
                file.write(f"{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n")
            print(f"{startup}: {line}")
    flag_table.write()
    print("from the next shell on")
