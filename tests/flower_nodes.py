"""A Flower Grid within the process, and a ClientApp in plain torch: what strategies are run on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from torch import Tensor, nn

from fedfast.integrations.flower.client_dual import Dual

FIRST = 2**63 + 7  # node ids have 64 bits, without a sign


def local_training(
    model: nn.Module, x: Tensor, y: Tensor, batches, lr: float, rho: float, correct
) -> None:
    """SGD, or SAM where rho > 0; `correct` changes the gradients before the step."""
    weights = [p for p in model.parameters() if p.requires_grad]
    for rows in batches:
        loss = F.cross_entropy(model(x[rows]), y[rows])
        gradients = torch.autograd.grad(loss, weights)
        if rho:
            length = torch.cat([g.flatten() for g in gradients]).norm()
            ascent = [rho * g / length for g in gradients]
            moved = deepcopy(model)  # its running statistics are not the model's
            held = [p for p in moved.parameters() if p.requires_grad]
            with torch.no_grad():
                torch._foreach_add_(held, ascent)
            gradients = torch.autograd.grad(F.cross_entropy(moved(x[rows]), y[rows]), held)
        for p, g in zip(weights, gradients, strict=True):
            p.grad = g
        correct()
        with torch.no_grad():
            for p in weights:
                p -= lr * p.grad


def client_app(model: nn.Module, data, batches, *, lr: float, rho: float = 0.0, beta=None):
    """A ClientApp as a user writes it; node i has data[i] and takes batches[round][i]."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config, node = message.content["config"], context.node_id - FIRST
        local = deepcopy(model).train()
        local.load_state_dict(message.content["arrays"].to_torch_state_dict())
        given = config.get("beta", beta)
        dual = None if given is None else Dual(local, context.state, given)
        (x, y), work = data[node], batches[config["server-round"] - 1][node]
        local_training(local, x, y, work, lr, rho, dual.correct if dual else lambda: None)
        if dual:
            dual.keep()
        metrics = MetricRecord({"num-examples": len(y)})
        content = {"arrays": ArrayRecord(local.state_dict()), "metrics": metrics}
        return Message(content=RecordDict(content), reply_to=message)

    return app


class InProcessGrid(Grid):
    """Nodes within the process; every message is serialized on its way there and back.

    cohorts  the nodes that are connected in each round
    """

    def __init__(self, app: ClientApp, cohorts: Sequence[Sequence[int]]) -> None:
        self.app, self.cohorts, self.round = app, cohorts, 0
        self.contexts: dict[int, Context] = {}
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # the ServerApp's

    def get_node_ids(self) -> Iterable[int]:
        return [FIRST + i for i in self.cohorts[self.round]]

    def send_and_receive(self, messages, *, timeout=None):
        replies = [self._answer(_wired(message)) for message in messages]
        self.round += bool(replies)
        return replies

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        fresh = Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
        return _wired(self.app(message, self.contexts.setdefault(node, fresh)))

    def _unused(self, *_, **__):
        raise NotImplementedError

    set_run = create_message = push_messages = pull_messages = _unused
    run = property(_unused)


def _wired(message: Message) -> Message:
    return message_from_proto(message_to_proto(message))
