"""`FastGrid`: a Flower `Grid` whose nodes train together."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from .answers import Answers
from .app_calls import identified
from .declaration import Training, declared
from .local_grid import LocalGrid
from .nodes import checked_partitions, context_of, partitions_of

PULL = 0.1  # seconds between looks for replies of the grid behind


class FastGrid(Grid):
    """Answers the train and evaluate messages of a round together, all others by `grid`.

    grid        that of the ServerApp's main: nodes are its nodes, and what cannot be trained
                together is sent to them
    client_app  of which `declare` has said what it does
    context     that of the ServerApp's main: run id and run config
    training    in place of what was declared of `client_app`
    partitions  {node id: partition} of all nodes, partitions 0, 1, ...; None: as Flower's
                simulation numbers its nodes

    The first messages of either kind, and a few in rounds 1, 2, 4, 8, ..., are also answered by the
    app's own function, in this process. Where the results differ, or something is declared that
    cannot be batched, a warning says why, and every message of that kind goes to `grid`. A node
    whose function raises is left to `grid` too.
    Raises TypeError/ValueError naming the argument.
    """

    def __init__(
        self,
        grid: Grid,
        client_app: ClientApp,
        context: Context,
        training: Training | None = None,
        *,
        partitions: Mapping[int, int] | None = None,
    ) -> None:
        for name, value, kind in (
            ("grid", grid, Grid),
            ("client_app", client_app, ClientApp),
            ("context", context, Context),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name}: expected a {kind.__name__}; got {value!r}")
        self.grid, self.client_app, self.context = grid, client_app, context
        if isinstance(grid, FastGrid):  # an app that makes one, under `run_simulation`
            self.grid = grid = grid.grid
        own = grid.partitions if isinstance(grid, LocalGrid) else partitions
        self._partitions = None if own is None else checked_partitions(own)
        self._replies: dict[str, Message] = {}
        self._contexts: dict[int, Context] = {}
        chosen = declared(client_app) if training is None else training
        self._answers = Answers(client_app, chosen)
        self.reasons = self._answers.reasons  # why messages of a kind go to `grid`

    def set_run(self, run: Run) -> None:
        """See `Grid`."""
        self.grid.set_run(run)

    @property
    def run(self) -> Run:
        """See `Grid`."""
        return self.grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See `Grid`."""
        return self.grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    @property
    def partitions(self) -> dict[int, int]:
        """The partition of each node."""
        if self._partitions is None:
            self._partitions = partitions_of(self.grid)
        return self._partitions

    def get_node_ids(self) -> Iterable[int]:
        """See `Grid`; all nodes of a simulation, which registers them while the ServerApp runs."""
        _ = self.partitions
        return self.grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """See `Grid`."""
        _ = self.partitions
        return self.grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answers what can be answered here before it returns, and sends the others."""
        given = [identified(message) for message in messages]
        answered = self._answered(given)
        for message, reply in answered:
            self._replies[message.metadata.message_id] = reply
        done = {id(message) for message, _ in answered}
        others = [message for message in given if id(message) not in done]
        sent = list(self.grid.push_messages(others)) if others else []
        return [message.metadata.message_id for message, _ in answered] + sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that there are to messages with these ids."""
        ids = list(message_ids)
        own = [self._replies.pop(i) for i in ids if i in self._replies]
        answered = {reply.metadata.reply_to_message_id for reply in own}
        others = [i for i in ids if i not in answered]
        return own + (list(self.grid.pull_messages(others)) if others else [])

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Replies to all messages, or those that came within `timeout` seconds."""
        waiting = list(self.push_messages(messages))
        end = None if timeout is None else time.monotonic() + timeout
        found: list[Message] = []
        while waiting:
            replies = list(self.pull_messages(waiting))
            found += replies
            came = {reply.metadata.reply_to_message_id for reply in replies}
            waiting = [message_id for message_id in waiting if message_id not in came]
            if not waiting or (end is not None and time.monotonic() >= end):
                break
            time.sleep(PULL)
        return found

    def _answered(self, messages: Sequence[Message]) -> list[tuple[Message, Message]]:
        """(message, reply) of those that are answered here."""
        found: list[tuple[Message, Message]] = []
        for kind in self._answers.kinds:
            own = [m for m in messages if _kind(m) == kind and m.has_content()]
            if own and kind not in self.reasons:
                known = [m for m in own if m.metadata.dst_node_id in self.partitions]
                found += self._answers.of(kind, known, self._context)
        return found

    def _context(self, node: int) -> Context:
        if node not in self._contexts:
            where, of = self.partitions[node], len(self.partitions)
            config = self.context.run_config
            self._contexts[node] = context_of(node, where, of, self.context.run_id, config)
        return self._contexts[node]


def _kind(message: Message) -> str:
    return message.metadata.message_type.removesuffix(".default")
