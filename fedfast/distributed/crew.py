"""A simulation's ranks at work: rank 0 says what is done next, the others do it with it.

Rank 0 runs callbacks, decides when to stop and to save, and reads and writes files. The others wait
for what it says: one more round, the rows that their clients keep, one client's model. A script
makes the same calls on all ranks; one that only rank 0 makes is served by the others while they
wait for their next.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from .. import checkpoint, round_loop
from ..build import Components
from ..client_scores import ClientScores
from ..data._concatenate import check_client
from ..history import Row, Rows
from ..state import Committed, Tuned
from .kept import OwnRows, joined, sent
from .peers import Peers
from .ranks import RankLost, Ranks
from .rounds import NOBODY


@dataclass(frozen=True)
class Loaded:
    """What other ranks need of a state that rank 0 has read: all but the clients' rows."""

    server: dict[str, Tensor]
    scalars: dict[str, float]
    tuned: Tuned | None
    stopped: bool
    rows: Rows
    owners: np.ndarray

    @classmethod
    def of(cls, state: Committed, owners: np.ndarray) -> Loaded:
        """Of a committed state."""
        server = {name: t.cpu() for name, t in state.server.tensors().items()}
        scalars = dict(state.server.scalars)
        return cls(server, scalars, state.tuned, state.stopped, state.rows, owners)


class Crew:
    """The ranks of a simulation of these parts. Made by all ranks at once.

    alone  whether this rank saves in the place of rank 0, which is gone
    """

    alone = False

    def __init__(self, ranks: Ranks, parts: Components) -> None:
        self.ranks, self.parts, self._broken = ranks, parts, False
        self._open()

    def _open(self) -> None:
        """Of all ranks at once: each opens the memory of the others, which are on one machine."""
        engine = self.parts.engine
        if self.ranks.local:
            with self.ranks.told_of_errors():
                rounds, size = len(engine.committed.rows), len(engine.state.row)
                peers = Peers(self.ranks, engine.clients, rounds, size)
            engine.peers = peers if peers.usable else None

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Of rank 0: the others are told when it trains no more rounds."""
        try:
            yield
        except RankLost:
            raise
        except BaseException:
            with suppress(RankLost):
                self._tell("stop")
            raise
        else:
            self._tell("stop")

    def round(self) -> Row:
        """Of rank 0: the next round, by all."""
        self._tell("round")
        return self._round()

    def _round(self) -> Row:
        """What is broken off in a round leaves the ranks at different places."""
        self._broken = True
        with self.ranks.told_of_errors():
            row = round_loop.next_round(self.parts)
            if (peers := self.parts.engine.peers) is not None:
                peers.committed(row.round)
        self._broken = False
        return row

    def _tell(self, *command: object) -> None:
        if self._broken:
            raise RankLost("a round was broken off, after which the ranks cannot go on together")
        self.ranks.tell(*command)

    def rounds(self) -> Generator[Row, None, None]:
        """Of other ranks: the rounds that rank 0 begins."""
        while (told := self.ranks.hear())[0] != "stop":
            if told[0] == "round":
                yield self._round()
            else:
                self._obey(*told)

    def serve(self) -> tuple[object, ...]:
        """Of other ranks: whatever rank 0 says, until it says "leave" or "end".

        Returns that.
        """
        while (told := self.ranks.hear())[0] not in ("leave", "end"):
            if told[0] == "round":
                self._round()
            else:
                self._obey(*told)
        return told

    def save(self, path: str | Path) -> None:
        """Rank 0 writes the one file; see `checkpoint.save`."""
        peers = self.parts.engine.peers
        if (peers is not None and peers.keeps) or not self.parts.engine.clients.kinds():
            if self.ranks.first or self.alone:
                self._keep(path)
            return
        if not self.ranks.first:
            self._together("save")
            return
        self._tell("save")
        try:
            checkpoint.save(self.parts, path, sent(self.ranks, self.parts.engine.clients))
        finally:
            self._tell("saved")

    def _keep(self, path: str | Path) -> None:
        """Write the last complete round without the other ranks, which may be gone."""
        peers, clients, kept = self.parts.engine.peers, self.parts.engine.clients, None
        if peers is not None and clients.kinds():
            others = peers.at(clients.generation).values()
            kept = joined([OwnRows(clients), *others], clients.row_kinds())
        checkpoint.save(self.parts, path, kept)

    def load(self, path: str | Path, all_figures: bool) -> None:
        """Rank 0 reads the file, and keeps all clients' rows until others train these."""
        if not self.ranks.first:
            self._together("load")
            return
        with self.ranks.told_of_errors():
            checkpoint.load(self.parts, path, all_figures)
        engine = self.parts.engine
        owners = np.full(engine.data.num_clients, NOBODY, np.int16)
        owners[engine.clients.kept_ids().numpy()] = 0
        engine.committed = replace(engine.committed, owners=owners)
        self._tell("load", Loaded.of(engine.committed, owners))
        self._open()

    def row(self, i: int) -> Tensor:
        """The personal model of client `i`, from the rank that keeps it; see `Personal.row`."""
        engine = self.parts.engine
        check_client(i, engine.data.num_clients)
        if engine.committed.tuned is not None or engine.algorithm.personal is None:
            return self.parts.personal.row(i)
        return cast(Tensor, self._together("row", i))

    def scores(self) -> ClientScores:
        """See `Simulation.evaluate_clients`."""
        return cast(ClientScores, self._together("scores"))

    def _together(self, name: str, *given: object) -> object:
        """What all ranks do at once, when rank 0 says so."""
        if self.ranks.first:
            self._tell(name, *given)
            return self._obey(name, *given)
        while True:
            told = self.ranks.hear()
            if told[0] in ("round", "stop", "leave"):
                raise RuntimeError(
                    f"ranks: rank 0 says {told[0]!r} where this one waits for {name!r}"
                )
            found = self._obey(*told)
            if told[0] == name:
                return found

    def _obey(self, name: object, *given: object) -> object:
        engine = self.parts.engine
        if name == "save":
            sent(self.ranks, engine.clients)
        if name == "scores":
            return round_loop.evaluate_clients(self.parts, engine.committed, True)
        if name == "load":
            engine.committed = self._loaded(cast(Loaded, given[0]))
            self._open()
        if name == "row":
            return self._row(cast(int, given[0]))
        return None

    def _row(self, i: int) -> Tensor:
        engine = self.parts.engine
        keeper = max(0, int(engine.owners[i]))
        row = torch.empty_like(engine.state.row)
        if keeper == self.ranks.rank:
            row.copy_(self.parts.personal.row(i))
        self.ranks.spread([row if at == keeper else row[:0] for at in range(self.ranks.size)])
        return row

    def _loaded(self, found: Loaded) -> Committed:
        engine, nobody = self.parts.engine, torch.zeros(0, dtype=torch.int64)
        state = engine.next
        for name, t in state.tensors().items():
            t.copy_(found.server[name])
        state.scalars = found.scalars
        clients = engine.clients.holding(nobody, *engine.clients.export(nobody))
        made = Committed(state, clients, found.tuned, found.stopped, found.rows)
        return replace(made, owners=found.owners)
