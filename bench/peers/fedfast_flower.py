"""fedfast under Flower: app and strategies of flower.py over `fedfast.integrations.flower`."""

import sys

from flwr.app import ConfigRecord
from flwr.serverapp import ServerApp

from fedfast.integrations.flower import Training, run_simulation

from . import torch_model
from .flower import FlowerRounds, messages, partitions
from .flower_app import client_app
from .protocol import Task, serve


class FastRounds(FlowerRounds):
    """Flower's rounds, which must not fall back to the app's own function.

    All nodes have had a message before, so that fedfast has read their samples, which it keeps.
    """

    def __init__(self, task: Task, algorithm: str, grid, nodes: dict[int, int], now) -> None:
        super().__init__(task, algorithm, grid, nodes)
        self.now = now
        config = ConfigRecord({"server-round": 0, "lr": task.lr})
        grid.send_and_receive(messages(list(nodes.values()), self.arrays, config))

    def round(self, t):
        self.now["round"] = t
        super().round(t)
        if self.grid.reasons:
            raise RuntimeError(f"not trained by fedfast: {self.grid.reasons}")


def main() -> None:
    """The protocol runs inside of the server app."""
    task, server = Task(sys.argv[1]), ServerApp()
    app, load, now = client_app(sys.argv[1], threads=None)

    @server.main()
    def answer(grid, context):
        nodes = partitions(grid, task.clients)

        def start(task: Task, algorithm: str, setting: str) -> FastRounds:
            torch_model.use(setting)
            now["round"] = 0
            return FastRounds(task, algorithm, grid, nodes, now)

        serve(task, start, ("flwr", "torch"))

    training = Training(
        model=lambda: torch_model.module(task), data=load, proximal_mu="proximal-mu"
    )
    run_simulation(server, app, task.clients, training=training)


if __name__ == "__main__":
    main()
