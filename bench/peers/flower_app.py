"""The ClientApp that flower.py and fedfast_flower.py run: a DataLoader and SGD, as quickstarts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.utils.data import DataLoader, TensorDataset

from . import torch_model
from .protocol import Task


class Planned:
    """A batch sampler: the schedule's batches of one client in the round at hand.

    Clients that are not in that round's cohort have one batch (all nodes' first message).
    """

    def __init__(self, task: Task, client: int, now: dict[str, int]) -> None:
        self.task, self.client, self.now = task, client, now

    def __iter__(self):
        cohort = self.task.cohorts[self.now["round"]].tolist()
        if self.client not in cohort:
            return iter([list(range(self.task.batch_size))])
        return iter(self.task.batches[self.now["round"], cohort.index(self.client)].tolist())

    def __len__(self) -> int:
        return len(list(iter(self)))


def client_app(
    folder: str, threads: int | None
) -> tuple[ClientApp, Callable[[int], DataLoader], dict[str, int]]:
    """The app, its data function and the round at hand, which each message renews.

    threads  torch's in a process that runs the app; None leaves them
    """
    app, kept, now = ClientApp(), {}, {"round": 0}

    def task() -> Task:  # workers map the files, so that all share them
        if "task" not in kept:
            kept["task"] = Task(folder, mmap_mode="c")
        return kept["task"]

    def load(partition_id: int) -> DataLoader:
        own = slice(partition_id * task().samples, (partition_id + 1) * task().samples)
        data = TensorDataset(*(torch.from_numpy(part[own]) for part in (task().x, task().y)))
        return DataLoader(data, batch_sampler=Planned(task(), partition_id, now))

    @app.query()
    def node(message, context):
        found = MetricRecord({"partition": context.node_config["partition-id"]})
        return Message(content=RecordDict({"node": found}), reply_to=message)

    @app.train()
    def train(message, context):
        if threads:
            torch.set_num_threads(threads)
        net, config = torch_model.module(task()), message.content["config"]
        net.load_state_dict(message.content["arrays"].to_torch_state_dict())
        now["round"] = config["server-round"]
        loader = load(context.node_config["partition-id"])
        steps = fit(net, loader, config["lr"], config.get("proximal-mu", 0.0))
        metrics = MetricRecord({"num-examples": task().samples, "batches": steps})
        content = {"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}
        return Message(content=RecordDict(content), reply_to=message)

    return app, load, now


def fit(net, batches, lr: float, mu: float) -> int:
    """SGD on the loss and, with mu, the proximal term; returns the number of steps."""
    optimizer = torch.optim.SGD(net.parameters(), lr)
    start = [p.detach().clone() for p in net.parameters()]
    steps = 0
    for x, y in batches:
        loss = F.cross_entropy(net(x), y)
        if mu:
            pairs = zip(net.parameters(), start, strict=True)
            loss = loss + mu / 2 * sum(((p - q) ** 2).sum() for p, q in pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return steps
