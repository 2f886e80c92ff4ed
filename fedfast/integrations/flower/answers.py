"""Which messages are answered together, and what is said of the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from .check import NoAnswer
from .declaration import Training
from .evaluate_rounds import EvaluateRounds
from .partitions import Partitions
from .states import States
from .train_rounds import TrainRounds
from .unsupported import Unsupported

RAISING = 3  # nodes whose functions raise before those of all nodes answer


class Answers:
    """Replies to train and evaluate messages; reasons: why those of a kind have none here.

    training  None: nothing is declared
    """

    def __init__(self, app: ClientApp, training: Training | None) -> None:
        self.reasons: dict[str, str] = {}
        self._rounds: dict[str, TrainRounds | EvaluateRounds] = {}
        self._raising: dict[str, set[int]] = {"train": set(), "evaluate": set()}
        self._without_batch: set[str] = set()  # kinds of which it was said that nodes have none
        if training is None:
            self._refuse("train", "nothing is declared of the ClientApp")
            self.reasons["evaluate"] = self.reasons["train"]
            return
        states, read = States(training.network()), Partitions(training)
        self._rounds["train"] = TrainRounds(app, training, states, read)
        self._rounds["evaluate"] = EvaluateRounds(app, training, states, read)

    @property
    def kinds(self) -> list[str]:
        """Of messages that there may be replies to."""
        return list(self._rounds)

    def of(
        self, kind: str, messages: Sequence[Message], context: Callable[[int], Context]
    ) -> list[tuple[Message, Message]]:
        """(message, reply) of those that are answered here; context: of a node, by its id."""
        left = set(self._raising[kind])
        while kind not in self.reasons:
            own = [m for m in messages if m.metadata.dst_node_id not in left]
            if not own:
                break
            contexts = [context(m.metadata.dst_node_id) for m in own]
            try:
                return list(zip(own, self._rounds[kind].answer(own, contexts), strict=True))
            except NoAnswer as alone:
                left.update(alone.nodes)
                self._leave(kind, alone)
            except Unsupported as reason:
                self._refuse(kind, str(reason))
        return []

    def _leave(self, kind: str, alone: NoAnswer) -> None:
        """Says which nodes are left to the app, for ever if they raise; where many do, all are."""
        raising = self._raising[kind]
        if alone.raised:
            raising.update(alone.nodes)
        elif kind in self._without_batch:
            return
        else:
            self._without_batch.add(kind)
        if len(raising) > RAISING:
            self._refuse(kind, f"on {len(raising)} nodes {alone}")
            return
        few = ", ".join(map(str, alone.nodes[:3])) + (", ..." if len(alone.nodes) > 3 else "")
        warnings.warn(
            f"fedfast: {kind} messages of node {few} are answered by the ClientApp's own function: "
            f"{alone}",
            stacklevel=2,
        )

    def _refuse(self, kind: str, reason: str) -> None:
        self.reasons[kind] = reason
        warnings.warn(
            f"fedfast: {kind} messages are answered by the ClientApp's own function, client by "
            f"client: {reason}",
            stacklevel=2,
        )
