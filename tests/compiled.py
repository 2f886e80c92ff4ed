"""What scripts that compile for a GPU print, run once for all test processes of a session.

Compiling takes a process of its own without TRITON_INTERPRET.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

Rows = list[dict[str, Any]]


def rows(factory: pytest.TempPathFactory, script: str, *arguments: str) -> Rows:
    """The JSON rows of a script of this folder, from whichever process asks first."""
    folder = factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    kept = folder / f"{script}.{'-'.join(arguments)}.jsonl"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            kept.write_text(printed(script, *arguments))
    return parsed(kept.read_text())


def parsed(text: str) -> Rows:
    """Rows as they are printed, one a line."""
    return [json.loads(line) for line in text.splitlines()]


def printed(script: str, *arguments: str) -> str:
    """What the script prints; AssertionError with its errors if it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_INTERPRET")}
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
