"""The round's weighted sums: the mean update for the model, and what server rows follow from.

Sums run in float64, in an order that follows from the positions in the cohort alone
(`kernels/summation.py`), so that they do not depend on chunks.
A sum whose weights are the mean's times a number is read off the mean: it costs no pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from . import kernels
from .algorithms.hooks import Clients, Cohort, Sum, TrainedLayout
from .clients import ClientState
from .kernels.placed import PlacedRows, RowsLike
from .kernels.registry import capabilities
from .mean_passes import Chunk, Ending, RecordedPass, RecordedPasses
from .phases import timed
from .running_sum import Place, RunningSum
from .state import ServerState
from .tensor_norms import TensorNorms
from .transfers import all_sent_to, numbers_of

ROUNDING = 1e-15  # relative; weights computed along two ways differ by so much
COLUMNS = 8192  # of placed rows at a time: those of a hundred clients fit into two cores' caches
PIECE = 1 << 15  # elements of a row, and of sums in float64, that fit into a core's second cache


class Mean:
    """`acc = sum_k weights_k (v_K - sent)` over the whole row [S], float64.

    square  of the norm of the mean in the trained region, float64 [], once it is ended
    late    whether models that are not finite are looked for when all are added, by `total`:
            `add` makes the host wait for the device where it looks itself
    """

    def __init__(self, like: Tensor, layout: TrainedLayout, backend: str) -> None:
        self.sum = RunningSum(like)
        self.acc, self.layout, self.backend = self.sum.lowest, layout, backend
        self.trained, self.square = self.acc[: layout.trained], self.acc.new_tensor(math.nan)
        self.late, self._updates = False, list[Tensor]()
        self._norms = TensorNorms(self.trained, layout.segments, backend)
        self._passes = RecordedPasses(self._regions, capabilities(backend, like).plans)

    def begin(self, late: bool) -> None:
        """A round begins; see `late`."""
        self.late, self._updates = late, []

    @timed("aggregate")
    def add(
        self, models: Tensor, weights: Tensor, sent: Tensor, place: Place, ending: Ending | None
    ) -> Tensor:
        """A chunk of models [K, S] with their weights [K]; with `ending`, the server's step too.

        Returns the positions [n] of models that are not finite: `sent` took their place.
        """
        if not self.late:
            self.sum.keep(models.shape[0], place)
        above = self.sum.above(models.shape[0], place)
        chunk = Chunk(models, weights, sent, place, above, ending)
        updates = self._pass(chunk)
        # What is not finite leaves its mark in the squares: without one no model need be read.
        if self.late or math.isfinite(sum(numbers_of(*updates))):
            self._updates += updates if self.late else []
            return models.new_empty(0, dtype=torch.int64)
        bad = nonfinite(models, self.backend).nonzero()[:, 0]
        if bad.shape[0]:
            models[bad] = sent
            self.sum.restore(len(models), place)
            if ending is not None:
                ending.renew()
            self._pass(chunk)
        return bad

    def recorded(self, models: Tensor, sent: Tensor, ending: Ending) -> RecordedPass:
        """The pass of a cohort of one chunk, models [C, S], with the server's step."""
        weights, place = models.new_zeros(len(models)), Place(0, len(models))
        return self._passes.recorded(Chunk(models, weights, sent, place, None, ending))

    def replace(self, models: Tensor, weights: Tensor, start: Tensor) -> None:
        """The trained region anew, from all models [C, trained] and weights [C] or [L, C]."""
        if weights.ndim == 1:
            kernels.aggregate(models, weights, start, acc=self.trained, backend=self.backend)
            return
        starts = [begin for begin, _ in self.layout.segments.spans]
        for row, a, b in zip(weights, starts, [*starts[1:], self.layout.trained], strict=True):
            acc = self.trained[a:b]
            kernels.aggregate(models[:, a:b], row, start[a:b], acc=acc, backend=self.backend)

    def total(self) -> Tensor:
        """The squared norms of the updates that nobody has looked at, summed: float64 [].

        Not finite where one of these models is not.
        """
        return torch.stack(self._updates).sum() if self._updates else self.square.new_zeros(())

    def norm_sum(self) -> Tensor:
        """Sum over tensors of the norms of the mean, float64 []."""
        return self._norms.sum()

    def end(self, sent: Tensor, ending: Ending) -> None:
        """The server's step from what has been added up.

        A client that did not move stands in for a last chunk: its weight is 0.
        """
        self._pass(Chunk(sent[None], sent.new_zeros(1), sent, None, None, ending))

    def _pass(self, chunk: Chunk) -> list[Tensor]:
        """Add models up; the squared norms of their updates, summed by region."""
        squares = self._passes.run(chunk)
        self.square = squares[0][1]
        return [clients.sum() for clients, _ in squares]

    def _regions(self, chunk: Chunk) -> list[Tensor]:
        """[K + 1] of each region: the squared norms of the updates and that of the mean.

        Buffers, behind the trained region, follow the plain mean: where it ends there are two.
        """
        t, ending = self.layout.trained, chunk.ending
        if ending is None:
            return [self._region(chunk, slice(None))]
        found = [self._region(chunk, slice(t), ending.rule, ending.after.m, ending.after.v)]
        if self.acc.shape[0] > t:
            found.append(self._region(chunk, slice(t, None), kernels.Server()))
        return found

    def _region(
        self,
        chunk: Chunk,
        where: slice,
        rule: kernels.Server | None = None,
        m: Tensor | None = None,
        v: Tensor | None = None,
    ) -> Tensor:
        ending = chunk.ending
        at, of, begin = chunk.place or (0, 0, 0)
        return kernels.aggregate(
            chunk.models[:, where],
            chunk.weights,
            chunk.sent[where],
            acc=self.acc[where],
            nodes=None if chunk.nodes is None else chunk.nodes[:, where],
            first=False,
            at=at,
            of=of,
            begin=begin,
            server=rule,
            w=None if ending is None else ending.before.row[where],
            m=m,
            v=v,
            out=None if ending is None else ending.after.row[where],
            backend=self.backend,
        )


def nonfinite(rows: Tensor, backend: str) -> Tensor:
    """Which rows hold a non-finite value. [K, S] -> [K] bool"""
    return kernels.stats(rows, backend=backend)[:, 0, kernels.Column.NONFINITE] > 0


def is_finite(row: Tensor, square: float, backend: str) -> bool:
    """Whether all of a row [S] is, whose square is given: a finite one proves it at once, its
    overflow does not."""
    return math.isfinite(square) or not bool(nonfinite(row[None], backend).any())


class RoundSums:
    """The sums that server rows follow from: running float64 [trained], unless read off the mean.

    rules  with weights on the host, as those of the cohort
    mean   `Mean.trained`, complete when `into` is called
    """

    def __init__(self, rules: Sequence[Sum], cohort: Cohort, mean: Tensor, backend: str) -> None:
        self.mean, self.backend = mean, backend
        self.shares = [_share(rule, cohort.weights) for rule in rules]
        weights = all_sent_to([rule.weights for rule in rules], mean.device)
        self.rules = [replace(rule, weights=w) for rule, w in zip(rules, weights, strict=True)]
        self.own = [None if s is not None else RunningSum(mean) for s in self.shares]

    @timed("aggregate")
    def add(self, at: Clients, place: Place, clients: ClientState) -> None:
        """Add a chunk of the cohort; the clients' former rows are still in `clients`."""
        for rule, total in zip(self.rules, self.own, strict=True):
            if total is not None:
                self._add(rule, total, at, place, clients)

    def _add(
        self, rule: Sum, total: RunningSum, at: Clients, place: Place, clients: ClientState
    ) -> None:
        rows, base = _operands(rule, at, clients)
        weights, above = rule.weights[place.at : place.at + len(at)], total.above(len(at), place)
        for block, where in _blocks(rows):
            kernels.aggregate(
                block,
                weights,
                _columns(base, where),
                acc=total.lowest[where],
                nodes=None if above is None else above[:, where],
                at=place.at,
                of=place.of,
                begin=place.begin,
                backend=self.backend,
            )

    def into(self, server: ServerState, counted: int) -> None:
        """Apply every rule to its server row; `counted` clients did not diverge."""
        for rule, share, own in zip(self.rules, self.shares, self.own, strict=True):
            row, keep = server.rows[rule.row], rule.keep - rule.fade * counted
            if own is None:
                _advance(row, keep, self.mean, share or 0.0)
            else:
                _advance(row, keep, own.lowest)


def _advance(row: Tensor, keep: float, total: Tensor, share: float = 1.0) -> None:
    """`row <- keep row + share total`, computed in float64; in pieces that stay in the caches."""
    size = len(row) if row.is_cuda else PIECE
    spare = total.new_empty(2, min(size, len(row)))
    for a in range(0, len(row), size):
        here, part = row[a : a + size], total[a : a + size]
        old, added = spare[:, : len(here)]
        torch.mul(part, share, out=added)
        here.copy_(old.copy_(here).mul_(keep).add_(added))


def _share(rule: Sum, weights: Tensor) -> float | None:
    """The factor between a sum's weights and the mean's, where there is one."""
    if rule.of is not None:
        return None
    ratio = rule.weights / weights
    same = (ratio - ratio[0]).abs() <= ROUNDING * ratio[0].abs()
    return float(ratio[0]) if bool(same.all()) else None


def _blocks(rows: RowsLike) -> Iterator[tuple[Tensor, slice]]:
    """(columns of rows [K, S], which) of all: placed rows are gathered a few columns at a time, so
    that they pass from cache to cache instead of through memory."""
    if not isinstance(rows, PlacedRows):
        yield rows, slice(None)
        return
    size = rows.shape[1] if rows.is_cuda else COLUMNS
    for a in range(0, rows.shape[1], size):
        where = slice(a, a + size)
        yield _columns(rows, where), where


def _columns(base: RowsLike, where: slice) -> Tensor:
    """The columns of rows [K, S], or of one for all."""
    if isinstance(base, PlacedRows):
        return base.table[:, where].index_select(0, base.places)
    return base[..., where]


def _operands(rule: Sum, at: Clients, clients: ClientState) -> tuple[RowsLike, RowsLike]:
    """(rows [K, trained], what they are measured from)."""
    if rule.of is None:
        return at.w, at.start
    rows = at.kept[rule.of] if rule.of in at.kept else at.scratch[rule.of]
    if not rule.change:
        return rows, torch.zeros_like(at.start)
    came = at.came.get(rule.of)
    if isinstance(rows, PlacedRows) and isinstance(came, PlacedRows):
        return rows, came  # in the table still, for the round writes to other places
    before = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)
    clients.gather(torch.from_numpy(at.ids), {rule.of: before})
    return rows, before
