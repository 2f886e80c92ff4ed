"""Flower: its simulation on Ray, one client per core at a time, evaluation off."""

import os
import sys

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg, FedProx
from flwr.simulation import run_simulation

from . import torch_model
from .protocol import Rounds, Task, Unsupported, serve


class Scheduled(FedAvg):
    """FedAvg with the schedule's cohort: `nodes[i]` is the node of partition i."""

    def __init__(self, task: Task, nodes: dict[int, int], **kwargs) -> None:
        super().__init__(fraction_evaluate=0.0, **kwargs)
        self.task, self.nodes, self.t = task, nodes, 0

    def configure_train(self, server_round, arrays, config, grid):
        config["server-round"] = self.t
        config["lr"] = self.task.lr
        content = RecordDict({"arrays": arrays, "config": config})
        ids = [self.nodes[i] for i in self.task.cohorts[self.t].tolist()]
        return [
            Message(content=content, message_type=MessageType.TRAIN, dst_node_id=i) for i in ids
        ]

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        failed = [reply for reply in replies if reply.has_error()]
        if failed:
            raise RuntimeError(f"a client failed: {failed[0].error}")
        for reply in replies:
            found = reply.content["metrics"]
            self.task.count(1, found["num-examples"], found.get("steps", self.task.steps))
        return super().aggregate_train(server_round, replies)


class ScheduledProx(FedProx, Scheduled):
    """FedProx, which sends mu with each message."""


class FlowerRounds(Rounds):
    """A strategy started for one round at a time, from the arrays of the round before."""

    def __init__(self, task: Task, algorithm: str, grid, nodes: dict[int, int]) -> None:
        if algorithm not in ("fedavg", "fedprox"):
            raise Unsupported(f"no {algorithm}")
        self.grid = grid
        self.strategy = (
            Scheduled(task, nodes)
            if algorithm == "fedavg"
            else ScheduledProx(task=task, nodes=nodes, proximal_mu=task.mu)
        )
        self.net = torch_model.module(task)
        self.arrays = ArrayRecord(self.net.state_dict())

    def round(self, t):
        self.strategy.t = t
        result = self.strategy.start(grid=self.grid, initial_arrays=self.arrays, num_rounds=1)
        self.arrays = result.arrays

    def weights(self):
        self.net.load_state_dict(self.arrays.to_torch_state_dict())
        return torch_model.weights(self.net)


def partitions(grid, expected: int) -> dict[int, int]:
    """The node of each partition, by a query."""
    nodes = list(grid.get_node_ids())
    while len(nodes) < expected:
        nodes = list(grid.get_node_ids())
    queries = [
        Message(content=RecordDict(), message_type=MessageType.QUERY, dst_node_id=i) for i in nodes
    ]
    replies = grid.send_and_receive(queries)
    return {r.content["node"]["partition"]: r.metadata.src_node_id for r in replies}


def client_app(folder: str) -> ClientApp:
    """An epoch of SGD on the schedule's batches; workers map the files of the task."""
    app, kept = ClientApp(), {}

    def samples():
        torch.set_num_threads(1)
        if "samples" not in kept:
            kept["samples"] = torch_model.Samples(Task(folder, mmap_mode="c"))
        return kept["samples"]

    @app.query()
    def node(message, context):
        content = RecordDict({"node": MetricRecord({"partition": context.node_config["partition-id"]})})
        return Message(content=content, reply_to=message)

    @app.train()
    def train(message, context):
        data, config = samples(), message.content["config"]
        net = torch_model.module(data.task)
        net.load_state_dict(message.content["arrays"].to_torch_state_dict())
        t, mu = config["server-round"], config.get("proximal-mu", 0.0)
        client = int(context.node_config["partition-id"])
        j = data.task.cohorts[t].tolist().index(client)
        steps = fit(net, data.batches(t, j), config["lr"], mu)
        metrics = MetricRecord({"num-examples": data.task.samples, "steps": steps})
        content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
        return Message(content=content, reply_to=message)

    return app


def fit(net, batches, lr: float, mu: float) -> int:
    """SGD on the loss and, with mu, the proximal term; returns the number of steps."""
    optimizer = torch.optim.SGD(net.parameters(), lr)
    start = [p.detach().clone() for p in net.parameters()]
    steps = 0
    for x, y in batches:
        loss = F.cross_entropy(net(x), y)
        if mu:
            pairs = zip(net.parameters(), start)  # noqa: B905
            loss = loss + mu / 2 * sum(((p - q) ** 2).sum() for p, q in pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return steps


def main() -> None:
    """The protocol runs inside of the server app: the simulation stays up."""
    task, server = Task(sys.argv[1]), ServerApp()

    @server.main()
    def answer(grid, context):
        nodes = partitions(grid, task.clients)
        serve(task, lambda t, a, setting: FlowerRounds(t, a, grid, nodes), ("flwr", "ray", "torch"))

    run_simulation(
        server_app=server,
        client_app=client_app(sys.argv[1]),
        num_supernodes=task.clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    main()
