"""FedLab: its standalone pipeline, serial trainers and server handlers of `fedlab.contrib`."""

import random
import sys

from fedlab.contrib.algorithm.fedavg import FedAvgSerialClientTrainer, FedAvgServerHandler
from fedlab.contrib.algorithm.fedprox import FedProxSerialClientTrainer, FedProxServerHandler
from fedlab.contrib.algorithm.scaffold import ScaffoldSerialClientTrainer, ScaffoldServerHandler
from fedlab.contrib.dataset.basic_dataset import FedDataset

from . import torch_model
from .protocol import Rounds, Task, Unsupported, serve

ALGORITHMS = {
    "fedavg": (FedAvgSerialClientTrainer, FedAvgServerHandler),
    "fedprox": (FedProxSerialClientTrainer, FedProxServerHandler),
    "scaffold": (ScaffoldSerialClientTrainer, ScaffoldServerHandler),
}


class Scheduled(FedDataset):
    """Each client's batches of the round at hand."""

    def __init__(self, samples: torch_model.Samples) -> None:
        self.samples, self.round = samples, 0

    def get_dataloader(self, id, batch_size=None):
        """A list of batches, since SCAFFOLD asks for their number."""
        j = self.samples.task.cohorts[self.round].tolist().index(id)
        return list(self.samples.batches(self.round, j))


class FedLabRounds(Rounds):
    """The steps of `StandalonePipeline.main` with the schedule's cohort."""

    def __init__(self, task: Task, algorithm: str) -> None:
        trainer, handler = ALGORITHMS[algorithm]
        self.task, self.data = task, Scheduled(torch_model.Samples(task))
        self.handler = handler(torch_model.module(task), 10**6, task.cohort / task.clients)
        self.handler.num_clients = task.clients
        self.trainer = trainer(torch_model.module(task), task.clients)
        self.trainer.setup_dataset(self.data)
        extra = {"fedprox": (task.mu,)}.get(algorithm, ())
        self.trainer.setup_optim(1, task.batch_size, task.lr, *extra)
        if algorithm == "scaffold":
            self.handler.setup_optim(1.0)

    def round(self, t):
        self.data.round = t
        self.trainer.local_process(self.handler.downlink_package, self.task.cohorts[t].tolist())
        for pack in self.trainer.uplink_package:
            self.handler.load(pack)

    def weights(self):
        return torch_model.weights(self.handler.model)


def start(task: Task, algorithm: str, setting: str) -> Rounds:
    """FedAvg, FedProx and SCAFFOLD (option II)."""
    if algorithm not in ALGORITHMS:
        raise Unsupported(f"no {algorithm}")
    random.seed(0)
    torch_model.use(setting)
    return FedLabRounds(task, algorithm)


if __name__ == "__main__":
    serve(Task(sys.argv[1]), start, ("fedlab", "torch"))
