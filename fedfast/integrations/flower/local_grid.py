"""`LocalGrid`: nodes in this process that run a ClientApp one after another, without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import Context, Message, RecordDict
from flwr.app.error import Error
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from .app_calls import call, identified
from .nodes import context_of

FIRST_NODE = 1000  # ids are not partitions: nobody takes one for the other


class LocalGrid(Grid):
    """A grid of `nodes` nodes; node `FIRST_NODE + i` has partition i and a context of its own."""

    def __init__(
        self, client_app: ClientApp, nodes: int, run: Run, run_config: Mapping[str, object]
    ) -> None:
        self.client_app, self._run = client_app, run
        self.partitions = {FIRST_NODE + i: i for i in range(nodes)}
        self._contexts: dict[int, Context] = {}
        self._config = run_config
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """See `Grid`."""
        self._run = run

    @property
    def run(self) -> Run:
        """See `Grid`."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See `Grid`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """See `Grid`."""
        return list(self.partitions)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Every message is answered before this returns."""
        ids = []
        for message in messages:
            message = identified(message)
            ids.append(message.metadata.message_id)
            self._replies[ids[-1]] = self._reply(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to messages with these ids."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Replies to all messages."""
        return self.pull_messages(self.push_messages(messages))

    def _reply(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        if node not in self.partitions:
            error = Error(ErrorCode.NODE_UNAVAILABLE, f"there is no node {node}")
            return identified(Message(error, reply_to=message))
        return call(self.client_app, message, self._context(node))

    def _context(self, node: int) -> Context:
        if node not in self._contexts:
            of, config = len(self.partitions), self._config
            run = self._run.run_id
            self._contexts[node] = context_of(node, self.partitions[node], of, run, config)
        return self._contexts[node]
