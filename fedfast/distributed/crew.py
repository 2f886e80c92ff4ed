"""A simulation's ranks at work: rank 0 says what is done next, the others do it with it.

Rank 0 runs callbacks, decides when to stop and to save, and reads and writes files. The others wait
for what it says: one more round, the rows that their clients keep, one client's model. A script
makes the same calls on all ranks; one that only rank 0 makes is served by the others while they
wait for their next.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import checkpoint, round_loop
from ..build import Components
from ..client_scores import ClientScores
from ..data._concatenate import check_client
from ..history import Row
from ..state import Committed, Tuned
from .ranks import RankLost, Ranks
from .rounds import NOBODY, kept


class Crew:
    """The ranks of a simulation of these parts."""

    def __init__(self, ranks: Ranks, parts: Components) -> None:
        self.ranks, self.parts, self._broken = ranks, parts, False

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
        self._broken = False
        return row

    def _tell(self, *command: Any) -> None:
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

    def serve(self) -> tuple[Any, ...]:
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
        if not self.parts.engine.clients.kinds():  # the server's state is here
            if self.ranks.first:
                checkpoint.save(self.parts, path)
            return
        found = self._together("save")
        if self.ranks.first:
            checkpoint.save(self.parts, path, found)

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
        self._tell("load", *_content(engine.committed))

    def row(self, i: int) -> Tensor:
        """The personal model of client `i`, from the rank that keeps it; see `Personal.row`."""
        engine = self.parts.engine
        check_client(i, engine.data.num_clients)
        if engine.committed.tuned is not None or engine.algorithm.personal is None:
            return self.parts.personal.row(i)
        found: Tensor = self._together("row", i)
        return found

    def scores(self) -> ClientScores:
        """See `Simulation.evaluate_clients`."""
        found: ClientScores = self._together("scores")
        return found

    def _together(self, name: str, *given: Any) -> Any:
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

    def _obey(self, name: str, *given: Any) -> Any:
        engine, personal = self.parts.engine, self.parts.personal
        if name == "save":
            return kept(self.ranks, engine.clients)
        if name == "load":
            engine.committed = self._loaded(*given)
        if name == "scores":
            return round_loop.evaluate_clients(self.parts, engine.committed, True)
        if name == "row":
            keeper = max(0, int(engine.owners[given[0]]))
            row = torch.empty_like(engine.state.row)
            if keeper == self.ranks.rank:
                row.copy_(personal.row(*given))
            parts = [row if i == keeper else row[:0] for i in range(self.ranks.size)]
            self.ranks.spread(parts)
            return row
        return None

    def _loaded(
        self,
        server: dict[str, Tensor],
        scalars: dict[str, float],
        tuned: Tuned | None,
        after: Committed,
    ) -> Committed:
        engine = self.parts.engine
        state = engine.next
        for name, t in state.tensors().items():
            t.copy_(server[name])
        state.scalars = scalars
        nobody = torch.zeros(0, dtype=torch.int64)
        rows, values = engine.clients.export(nobody)
        clients = engine.clients.holding(nobody, rows, values)
        return replace(after, server=state, clients=clients, tuned=tuned)


def _content(state: Committed) -> tuple[Any, ...]:
    """What other ranks need of a state that rank 0 has read."""
    server = {name: t.cpu() for name, t in state.server.tensors().items()}
    bare: Any = replace(state, server=None, clients=None, tuned=None)  # type: ignore[arg-type]
    return server, dict(state.server.scalars), state.tuned, bare
