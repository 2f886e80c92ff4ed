"""The parent's end: a contestant's process, its turns, and what the rest of the machine did."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .environments import Contestant, Unavailable, interpreter

BENCH = Path(__file__).parents[1]
PATIENCE_S = 150.0  # for one reply: compilers and a thousand simulated nodes take their time


class Player:
    """A contestant at work on one task. It is there after `greet`.

    Raises Unavailable where its environment cannot be made, it does not start, or stops answering.
    """

    versions: Mapping[str, str]  # of its packages

    def __init__(self, contestant: Contestant, folder: Path) -> None:
        self.contestant, self.log = contestant, folder / f"{contestant.name}.log"
        module, *arguments = contestant.script
        command = [interpreter(contestant), "-m", f"peers.{module}", *arguments, str(folder)]
        if not (BENCH / "peers" / f"{module}.py").exists():
            raise Unavailable("it has no script yet")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=BENCH,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(bool(contestant.packages)),
                start_new_session=True,
            )

    def greet(self) -> None:
        """Wait until it is there."""
        self.versions = self._reply()["versions"]
        self.rest()

    def start(self, algorithm: str, setting: str) -> str:
        """Begin anew from the initial model; returns why not, or nothing."""
        reply = self._ask(op="start", algorithm=algorithm, setting=setting)
        return reply.get("unsupported", "")

    def round(self, t: int) -> dict[str, float]:
        """Its turn: seconds, counts and the norm of the global model's update."""
        return self._ask(op="round", round=t)

    def close(self) -> None:
        """Let it end by itself, then end what is left of it."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.wake()
            self.process.stdin.close()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                pass
        self._kill()

    def _kill(self) -> None:
        self._send(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def _ask(self, **message: object) -> dict[str, Any]:
        self.wake()
        try:
            return self._answer(**message)
        finally:
            self.rest()

    def rest(self) -> None:
        """Stop all of its processes, if they do not rest by themselves."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.contestant.restless:
            self._send(number)

    def _send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            for pid in reversed(tree(self.process.pid)):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass

    def _answer(self, **message: object) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the reply says so
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            in_time = selector.select(PATIENCE_S)
        line = self.process.stdout.readline() if in_time else b""
        if line:
            return json.loads(line)
        self._kill()
        said = self.log.read_text().split("\n") if in_time else []
        said = [line for line in said if line.strip()]
        last = said[-1][:200] if said else f"no answer within {PATIENCE_S:.0f} s"
        raise Unavailable(f"{last} (see {self.log.name})")


def _environment(foreign: bool) -> dict[str, str]:
    """Variables for a child: the peer's environment must not see this one's packages."""
    kept = {k: v for k, v in os.environ.items() if not (foreign and k == "PYTHONPATH")}
    # threads are the contestants' to choose, see Contestant.settings
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        kept.pop(name, None)
    return kept


def tree(root: int) -> dict[int, float]:
    """A process and all below it: CPU seconds so far by id, ended children included (Linux)."""
    below: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended
        pid, parent = int(path.parent.name), int(fields[1])
        below.setdefault(parent, []).append(pid)
        seconds[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return {pid: seconds.get(pid, 0.0) for pid in _descendants(root, below)}


def _descendants(root: int, below: Mapping[int, list[int]]) -> Iterable[int]:
    yield root
    for child in below.get(root, ()):
        yield from _descendants(child, below)
