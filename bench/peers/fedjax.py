"""FedJAX: clients one after another, each step compiled (its `for_each_client` for one device)."""

import sys

import fedjax
import jax
import numpy as np

from . import jax_model
from .protocol import Rounds, Task, Unsupported, serve


class FedJaxRounds(Rounds):
    """`fed_avg` or `fed_prox`; data sets hold the samples in the schedule's order."""

    def __init__(self, task: Task, algorithm: str) -> None:
        self.task = task
        common = {
            "client_optimizer": fedjax.optimizers.sgd(task.lr),
            "server_optimizer": fedjax.optimizers.sgd(1.0),
            "client_batch_hparams": fedjax.ShuffleRepeatBatchHParams(
                batch_size=task.batch_size, num_epochs=1, skip_shuffle=True
            ),
        }
        losses = jax_model.losses(task.model)

        def mean_loss(params, batch, rng):
            return losses(params, batch["x"], batch["y"]).mean()

        if algorithm == "fedavg":
            self.algorithm = fedjax.algorithms.fed_avg.federated_averaging(
                jax.grad(mean_loss), **common
            )
        else:
            self.algorithm = fedjax.algorithms.fed_prox.fed_prox(
                lambda params, batch, rng: losses(params, batch["x"], batch["y"]),
                proximal_weight=task.mu,
                **common,
            )
        self.state = self.algorithm.init([jax.numpy.asarray(w) for w in task.weights])
        self.key = jax.random.PRNGKey(0)

    def round(self, t):
        clients = [self.client(t, j) for j in range(self.task.cohort)]
        self.state, _ = self.algorithm.apply(self.state, clients)
        jax.block_until_ready(self.state.params)

    def client(self, t: int, j: int):
        """(id, data set, key) of the cohort's client j."""
        rows = self.task.rows(t, j).ravel()
        data = fedjax.ClientDataset({"x": self.task.x[rows], "y": self.task.y[rows]})
        self.task.count(1, len(rows), -(-len(rows) // self.task.batch_size))
        return str(self.task.cohorts[t, j]), data, self.key

    def weights(self):
        return [np.array(w) for w in self.state.params]


def start(task: Task, algorithm: str, setting: str) -> Rounds:
    """FedAvg and FedProx; XLA takes all cores, whatever is set."""
    if algorithm not in ("fedavg", "fedprox"):
        raise Unsupported(f"no {algorithm}")
    return FedJaxRounds(task, algorithm)


if __name__ == "__main__":
    given = Task(sys.argv[1])
    given.y = given.y.astype(np.int32)
    serve(given, start, ("fedjax", "jax"))
