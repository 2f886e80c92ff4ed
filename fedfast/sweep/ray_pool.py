"""Rows on a Ray cluster: a task for each, on whichever node has room (`--launcher ray`).

The cluster is the one that RAY_ADDRESS names, or one that is started here for the command. Rows
keep their results in their folders, so that all nodes must see the same files.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Generic

from joblib import cpu_count

from .outcome import Outcome, R

LOOK = 0.25  # seconds between two states of the view
REACHED = 10.0  # seconds that a cluster has to answer
ENDING = 120.0  # seconds that rows have to keep their states
MISSING = 'launcher: ray is not installed; pip install "fedfast[ray]"'


@dataclass(frozen=True)
class Place:
    """Where the command runs: its working folder, and a file with a token in the rows' folder."""

    folder: str
    token: str
    secret: str

    def unseen(self) -> str:
        """Why this node cannot keep a row's results, "" where it can."""
        path = Path(self.token)
        try:
            os.chdir(self.folder)
            if path.read_text(encoding="ascii") == self.secret:
                return ""
        except OSError:
            pass
        return (
            f"{path.parent} is not the same folder on node {os.uname().nodename}: rows on a Ray "
            "cluster need a file system that all nodes share"
        )


def remote(place: Place, task: Callable[[R], Outcome], row: R) -> Outcome:
    """What a worker of Ray runs."""
    if why := place.unseen():
        return Outcome("failed", why)
    sys.path.extend({place.folder} - set(sys.path))  # `my_module:Name` in a config
    return task(row)


class RayPool(Generic[R]):
    """`task(row)` on the cluster, `cpus` and `gpus` for each.

    task    a function of a module, or a partial of one: it is sent by name
    jobs    rows at once; None: as many as the cluster has room for
    failed  is told of a row whose process ended without an outcome
    Raises ValueError without Ray, where the cluster cannot be reached, or no node has the room.
    """

    def __init__(
        self,
        task: Callable[[R], Outcome],
        out: Path,
        cpus: int,
        gpus: float = 0.0,
        jobs: int | None = None,
        failed: Callable[[R, str], object] = lambda row, why: None,
    ) -> None:
        self.failed, self.busy = failed, dict[object, R]()
        self._ray = _connected(cpus)
        self._wanted = {"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {})
        self._limit = jobs
        _check_room(self._ray.nodes(), self._wanted)
        self._token = out.absolute() / f".ray-{secrets.token_hex(8)}"
        self.place = Place(os.getcwd(), str(self._token), secrets.token_hex(16))
        self._token.write_text(self.place.secret, encoding="ascii")
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
        self._remote, self._task = self._ray.remote(**options)(remote), task

    @property
    def jobs(self) -> int:
        """Rows at once: as many as were asked for, or as the cluster has room for now."""
        if self._limit is not None:
            return self._limit
        there = self._ray.cluster_resources()
        return max(1, min(int(there.get(k, 0) // v) for k, v in self._wanted.items()))

    def run(
        self, rows: Iterable[R], look: Callable[[Sequence[R]], object]
    ) -> Iterator[tuple[R, Outcome]]:
        """See `Launcher.run`."""
        waiting = iter(rows)
        while True:
            for row in islice(waiting, max(0, self.jobs - len(self.busy))):
                self.busy[self._remote.remote(self.place, self._task, row)] = row
            look(list(self.busy.values()))
            if not self.busy:
                return
            ready, _ = self._ray.wait(list(self.busy), num_returns=1, timeout=LOOK)
            for one in ready:
                row = self.busy.pop(one)
                yield row, self._outcome(one, row)

    def stop(self) -> None:
        """See `Launcher.stop`: rows hear of it as of Ctrl-C."""
        try:
            self._cancel(False)
        except KeyboardInterrupt:
            self._cancel(True)
        self.busy.clear()

    def close(self) -> None:
        """Leaves the cluster, or ends the one that was started here."""
        self._token.unlink(missing_ok=True)
        self._ray.shutdown()

    def _cancel(self, force: bool) -> None:
        left = list(self.busy)
        for one in left:
            self._ray.cancel(one, force=force)
        if left:
            self._ray.wait(left, num_returns=len(left), timeout=ENDING)

    def _outcome(self, one: object, row: R) -> Outcome:
        try:
            found: Outcome = self._ray.get(one)
            return found
        except Exception as error:  # of Ray: the row's own are an outcome
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            kind = type(error).__name__
            why = f"its Ray worker ended ({kind}): out of memory, or a crash in a library"
            if kind in ("RayTaskError", "ModuleNotFoundError", "RuntimeEnvSetupError"):
                why = f"Ray could not run it ({kind}): {first}"
            self.failed(row, f"{why}\n\n{error}\n")
            return Outcome("failed", why)


def _connected(cpus: int) -> ModuleType:
    """The module `ray`, connected: to RAY_ADDRESS, or to a cluster of this machine alone."""
    try:
        import ray
    except ImportError as error:
        raise ValueError(MISSING) from error
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns that it will
    address = os.environ.get("RAY_ADDRESS")
    if address:
        _check_listens(address)
    here = None if address else max(cpus, int(cpu_count()))
    try:
        ray.init(
            address or "local",
            num_cpus=here,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"RAY_ADDRESS: cannot reach the cluster at {address}: {why}") from error
    return ray


def _check_listens(address: str) -> None:
    """Raise ValueError where nobody answers at [ray://]host:port: Ray would try for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not port.isdecimal():
        return  # "auto", "local"
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"RAY_ADDRESS: cannot reach the cluster at {address}: {error}") from error


def _check_room(nodes: Iterable[Mapping[str, dict[str, float]]], wanted: dict[str, float]) -> None:
    """Raise ValueError unless a node has all of it: Ray would wait for one for ever."""
    for node in nodes:
        if node["Alive"] and all(node["Resources"].get(k, 0) >= v for k, v in wanted.items()):
            return
    asked = ", ".join(f"{v:g} {k}" for k, v in wanted.items())
    raise ValueError(f"launcher: no node of the Ray cluster has {asked} for a row; lower threads")
