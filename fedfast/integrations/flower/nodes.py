"""Nodes: their partitions, and the contexts that functions of a ClientApp are given."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime

from flwr.app import Context, RecordDict
from flwr.serverapp import Grid

STEADY = 0.3  # seconds without a new node after which a simulation has all of its nodes


def partitions_of(grid: Grid) -> dict[int, int]:
    """The partition of each node of Flower's simulation.

    It registers nodes one after another, partition 0 first (`vce_api._register_nodes`), while the
    ServerApp already runs: waits until no node has come for a moment.
    """
    from flwr.superlink.grid import InMemoryGrid

    if not isinstance(grid, InMemoryGrid):
        raise ValueError(
            f"partitions: expected {{node id: partition}} for a {type(grid).__name__}: only those "
            "of Flower's simulation are known"
        )
    _wait_for_nodes(grid)
    nodes = list(grid.get_nodes())
    times = {node.node_id: datetime.fromisoformat(node.registered_at) for node in nodes}
    if len(set(times.values())) < len(nodes):
        raise ValueError(
            "partitions: nodes were registered at the same time: give {node: partition}"
        )
    return {node: i for i, node in enumerate(sorted(times, key=times.__getitem__))}


def checked_partitions(given: Mapping[int, int]) -> dict[int, int]:
    """{node id: partition}: as many nodes as partitions, numbered from 0."""
    if not isinstance(given, Mapping):
        raise TypeError(f"partitions: expected {{node id: partition}}; got {given!r}")
    if sorted(given.values()) != list(range(len(given))):
        found = sorted(given.values())[:6]
        raise ValueError(
            f"partitions: expected each of 0..{len(given) - 1} once, for {len(given)} nodes; got "
            f"{found}"
        )
    return dict(given)


def as_new(context: Context) -> Context:
    """The context before the node's first message: without what its functions have kept."""
    node, run = dict(context.node_config), dict(context.run_config)
    return Context(context.run_id, context.node_id, node, RecordDict(), run)


def _wait_for_nodes(grid: Grid) -> None:
    count, since = 0, time.monotonic()
    while count == 0 or time.monotonic() - since < STEADY:
        now = len(list(grid.get_node_ids()))
        if now != count:
            count, since = now, time.monotonic()
        time.sleep(0.02)


def context_of(
    node: int, partition: int, partitions: int, run_id: int, config: Mapping[str, object]
) -> Context:
    """A node's context before its first message, as Flower's simulation makes it."""
    return Context(
        run_id=run_id,
        node_id=node,
        node_config={"partition-id": partition, "num-partitions": partitions},
        state=RecordDict(),
        run_config=dict(config),  # type: ignore[arg-type]
    )
