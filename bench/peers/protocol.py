"""The child's end: a contestant answers one JSON line on stdout for each on stdin.

    {"op": "start", "algorithm": "fedprox", "setting": "1 thread"}   -> {} or {"unsupported": why}
    {"op": "round", "round": 3}  -> {"seconds", "clients", "samples", "steps", "update_norm"}

The first line, unasked, names the versions of its packages. What a peer prints goes to stderr.
Needs NumPy alone: it runs in the environments of all peers.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


class Unsupported(Exception):
    """The peer has no such algorithm."""


class Task:
    """One workload as the parent wrote it into a folder, the same for all contestants.

    x [N * n, *shape] float32, y [N * n] int64: client i owns rows i n to (i + 1) n
    weights    the initial model, arrays in the order and shapes of torch's parameters
    cohorts    [R, K] ids of the clients of each round
    batches    [R, K, T, B] each client's batches, positions among its own samples
    counts     clients, samples and steps of the current round, added up by `batch`
    """

    def __init__(self, folder: str, mmap_mode: str | None = None) -> None:
        self.folder = folder
        facts = json.loads(Path(folder, "task.json").read_text())
        self.model, self.shape = facts["model"], tuple(facts["shape"])
        self.clients, self.samples = facts["clients"], facts["samples"]
        self.cohort, self.batch_size = facts["cohort"], facts["batch"]
        self.lr, self.mu, self.rho = facts["lr"], facts["mu"], facts["rho"]
        self.x, self.y, self.cohorts, self.batches = (
            np.load(Path(folder, f"{name}.npy"), mmap_mode)
            for name in ("x", "y", "cohorts", "batches")
        )
        self.weights = [np.load(Path(folder, f"weight{i}.npy")) for i in range(facts["weights"])]
        self.steps = self.batches.shape[2]
        self.counts = dict.fromkeys(("clients", "samples", "steps"), 0)

    def rows(self, t: int, j: int) -> np.ndarray:
        """Rows of the samples [T, B] that the cohort's client j uses in round t."""
        return int(self.cohorts[t, j]) * self.samples + self.batches[t, j]

    def count(self, clients: int = 0, samples: int = 0, steps: int = 0) -> None:
        """Work handed to the peer's own training in this round."""
        for name, value in (("clients", clients), ("samples", samples), ("steps", steps)):
            self.counts[name] += value

    def counted(self, batches: Any) -> Iterator[Any]:
        """One client's (x, y) batches as they are asked for, counted."""
        self.count(clients=1)
        for batch in batches:
            self.count(samples=len(batch[1]), steps=1)
            yield batch


class Rounds:
    """What a peer's script makes of a task and an algorithm: something that trains round t."""

    def round(self, t: int) -> None:
        """Train round t's cohort and renew the global model. This is timed."""
        raise NotImplementedError

    def weights(self) -> list[np.ndarray]:
        """The global model in the order and shapes of `Task.weights`."""
        raise NotImplementedError


def serve(task: Task, start: Callable[[Task, str, str], Rounds], packages: tuple[str, ...]) -> None:
    """Answer the parent until it closes stdin."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    versions = {name: metadata.version(name) for name in packages}
    versions["python"] = ".".join(map(str, sys.version_info[:3]))
    print(json.dumps({"versions": versions}), file=replies)
    rounds: Rounds | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["op"] == "start":
            reply = {}
            try:
                rounds = start(task, asked["algorithm"], asked["setting"])
            except Unsupported as error:
                reply = {"unsupported": str(error)}
        else:
            assert rounds is not None
            reply = timed(task, rounds, asked["round"])
        print(json.dumps(reply), file=replies)


def timed(task: Task, rounds: Rounds, t: int) -> dict[str, float]:
    """The reply to a round: its seconds, what was counted, and how far the model moved."""
    before = rounds.weights()
    task.counts = dict.fromkeys(task.counts, 0)
    begin = time.perf_counter()
    rounds.round(t)
    seconds = time.perf_counter() - begin
    moved = [np.asarray(b, float) - a for a, b in zip(before, rounds.weights(), strict=True)]
    norm = float(np.sqrt(sum(float((d**2).sum()) for d in moved)))
    return {"seconds": seconds, "update_norm": norm, **task.counts}
