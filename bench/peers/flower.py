"""Flower: its simulation on Ray, one client per core at a time, evaluation off."""

import os
import sys

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg, FedProx
from flwr.simulation import run_simulation

from . import torch_model
from .flower_app import client_app
from .protocol import Rounds, Task, Unsupported, serve


class Scheduled(FedAvg):
    """FedAvg with the schedule's cohort of round `t`: `nodes[i]` is the node of partition i."""

    def follow(self, task: Task, nodes: dict[int, int]) -> "Scheduled":
        """Take the cohorts from a task."""
        self.task, self.nodes, self.t = task, nodes, 0
        return self

    def configure_train(self, server_round, arrays, config, grid):
        config["server-round"], config["lr"] = self.t, self.task.lr
        ids = [self.nodes[i] for i in self.task.cohorts[self.t].tolist()]
        return messages(ids, arrays, config)

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        failed = [reply for reply in replies if reply.has_error()]
        if failed:
            raise RuntimeError(f"a client failed: {failed[0].error}")
        for reply in replies:
            found = reply.content["metrics"]
            self.task.count(1, int(found["num-examples"]), int(found["batches"]))
        return super().aggregate_train(server_round, replies)


class ScheduledProx(FedProx, Scheduled):
    """FedProx, which sends mu with each message."""


class FlowerRounds(Rounds):
    """A strategy started for one round at a time, from the arrays of the round before."""

    def __init__(self, task: Task, algorithm: str, grid, nodes: dict[int, int]) -> None:
        made = {
            "fedavg": lambda: Scheduled(fraction_evaluate=0.0),
            "fedprox": lambda: ScheduledProx(fraction_evaluate=0.0, proximal_mu=task.mu),
        }
        if algorithm not in made:
            raise Unsupported(f"no {algorithm}")
        self.grid, self.strategy = grid, made[algorithm]().follow(task, nodes)
        self.net = torch_model.module(task)
        self.arrays = ArrayRecord(self.net.state_dict())

    def round(self, t):
        self.strategy.t = t
        result = self.strategy.start(grid=self.grid, initial_arrays=self.arrays, num_rounds=1)
        self.arrays = result.arrays

    def weights(self):
        self.net.load_state_dict(self.arrays.to_torch_state_dict())
        return torch_model.weights(self.net)


def messages(ids: list[int], arrays: ArrayRecord, config: ConfigRecord) -> list[Message]:
    """Train messages to these nodes."""
    content = RecordDict({"arrays": arrays, "config": config})
    return [Message(content=content, message_type=MessageType.TRAIN, dst_node_id=i) for i in ids]


def partitions(grid, expected: int) -> dict[int, int]:
    """The node of each partition, by a query."""
    nodes = list(grid.get_node_ids())
    while len(nodes) < expected:
        nodes = list(grid.get_node_ids())
    queries = [
        Message(content=RecordDict(), message_type=MessageType.QUERY, dst_node_id=i) for i in nodes
    ]
    replies = grid.send_and_receive(queries)
    return {int(r.content["node"]["partition"]): r.metadata.src_node_id for r in replies}


def main() -> None:
    """The protocol runs inside of the server app: the simulation stays up."""
    task, server = Task(sys.argv[1]), ServerApp()

    @server.main()
    def answer(grid, context):
        nodes = partitions(grid, task.clients)
        packages = ("flwr", "ray", "torch")
        serve(task, lambda t, a, setting: FlowerRounds(t, a, grid, nodes), packages)

    run_simulation(
        server_app=server,
        client_app=client_app(sys.argv[1], threads=1)[0],
        num_supernodes=task.clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    main()
