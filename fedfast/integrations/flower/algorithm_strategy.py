"""`AlgorithmStrategy`: the server of a fedfast algorithm under Flower's ServerApp."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn

from ..._messages import format_value, unknown
from ...algorithms import Algorithm, by_name
from .record_rows import RecordRows
from .server_half import ServerHalf
from .server_rows import Replies

WEIGHTS = ("samples", "uniform")
LOG = logging.getLogger("flwr")


@dataclass(frozen=True)
class _Exchange:
    """What a round started from: the model and what was sent, [S] each; N clients there are."""

    arrays: ArrayRecord
    row: Tensor
    sent: Tensor
    clients: int


class AlgorithmStrategy(FedAvg):
    """The server of a fedfast algorithm as a Flower strategy.

    model        the ServerApp's module: says which arrays of its `state_dict` are trained
    algorithm    as `Simulation` takes it; its server must need no more than the clients' models
    server_lr    eta_g
    aggregation  "samples": clients weigh by `weighted_by_key`; "uniform": alike
    clients      N, all clients there are; None: the nodes connected in the round
    seed         of random numbers that the server draws (FedGH's `order="random"`)
    options      of flwr.serverapp.strategy.FedAvg

    A client whose arrays are not finite counts as one that did not move, and is logged. The
    server's scalars (FedGH's `conflicts_before`) join the metrics of training.
    Raises TypeError/ValueError naming the argument.
    """

    def __init__(
        self,
        model: nn.Module,
        algorithm: str | Algorithm,
        *,
        server_lr: float = 1.0,
        aggregation: str = "samples",
        clients: int | None = None,
        seed: int = 0,
        **options: object,
    ) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # FedAvg's own
        if aggregation not in WEIGHTS:
            raise unknown("aggregation", aggregation, WEIGHTS)
        if clients is not None and (not isinstance(clients, int) or clients < 1):
            raise ValueError(f"clients: expected at least 1 or None; got {format_value(clients)}")
        self.clients, self._rows = clients, RecordRows(model)
        self.algorithm = by_name(algorithm) if isinstance(algorithm, str) else algorithm
        if not isinstance(self.algorithm, Algorithm):
            raise TypeError(f"algorithm: expected an algorithm; got {format_value(algorithm)}")
        by_samples = aggregation == "samples"
        layout = self._rows.layout
        self._server = ServerHalf(self.algorithm, layout, server_lr, by_samples, seed)
        self._exchange: _Exchange | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """FedAvg's messages, with the model that the algorithm's server sends."""
        row = self._rows.read(arrays)
        sent = self._server.send(row, server_round - 1)
        record = self._rows.write(sent, arrays)
        messages = list(super().configure_train(server_round, record, config, grid))
        clients = self.clients or len(list(grid.get_node_ids()))
        self._exchange = _Exchange(arrays, row, self._rows.read(record), clients)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The algorithm's server step from the clients' models; (None, None) without any."""
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid or self._exchange is None:
            return None, None
        valid.sort(
            key=lambda reply: reply.metadata.src_node_id
        )  # sums do not depend on who is first
        contents = [message.content for message in valid]
        metrics = self.train_metrics_aggr_fn(contents, self.weighted_by_key)
        arrays = self._step(self._exchange, valid, server_round - 1)
        for name, value in self._server.state.scalars.items():
            metrics[name] = value
        return arrays, metrics

    def _step(self, exchange: _Exchange, replies: Sequence[Message], round: int) -> ArrayRecord:
        given = self._replies(replies)
        row, sent, clients = exchange.row, exchange.sent, exchange.clients
        new, bad = self._server.step(row, sent, given, clients, round)
        for node in given.ids[bad]:
            LOG.warning("\t> Arrays of node %d are not finite: counted as unchanged", node)
        if new is row:
            LOG.warning("\t> The new model is not finite: the round is dropped")
        return self._rows.write(new, exchange.arrays)

    def _replies(self, replies: Sequence[Message]) -> Replies:
        """Models, node ids and samples of the clients."""
        records = [next(iter(reply.content.array_records.values())) for reply in replies]
        metrics = [next(iter(reply.content.metric_records.values())) for reply in replies]
        sizes = [float(m[self.weighted_by_key]) for m in metrics]  # type: ignore[arg-type]
        nodes = [reply.metadata.src_node_id for reply in replies]
        ids = np.array(nodes, dtype=np.uint64)
        return Replies(self._rows.stack(records), ids, torch.tensor(sizes, dtype=torch.float64))
