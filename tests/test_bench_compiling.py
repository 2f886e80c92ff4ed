"""A campaign's kernels are compiled ahead by several processes: each once, and all are found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed on this platform")
TESTS = Path(__file__).parent
sys.path.append(str(TESTS.parent / "bench"))

from gpu_sections import compiling  # noqa: E402


def test_what_is_launched_was_compiled_once_by_others(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_INTERPRET")}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, str(TESTS / "compile_ahead.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    *shares, launched = json.loads(done.stdout.splitlines()[-1])
    made = len(list(tmp_path.rglob("*.ttir")))
    # Nothing is found either: what both were given the one would find, however they are timed.
    assert all(set(each) == {"compiled"} for each in shares)
    assert made > 20 and sum(each["compiled"] for each in shares) == made
    assert min(each["compiled"] for each in shares) > made // 4
    assert launched == {"found": made}


def test_processes_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that still compile; one that broke off says why in a file."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    idle = "import time, sys; print(sys.argv[2:], flush=True); time.sleep(60 * int(sys.argv[3]))"
    monkeypatch.setattr(compiling, "COMMAND", [sys.executable, "-c", idle, "script"])
    given = ["machine", "runs", "operations"]
    first, second = compiling.processes(given, 90, tmp_path)
    assert first.wait(60) == 0 and compiling.end([first, second]) == 1
    assert second.returncode != 0 and compiling.processes(["machine"], 90, tmp_path) == []
    lines = (tmp_path / "compiling.txt").read_text().splitlines()
    assert "['runs,operations', '0', '2', '90']" in lines
