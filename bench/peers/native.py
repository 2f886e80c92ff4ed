"""fedfast's `Simulation`."""

import sys

import numpy as np
import torch

from fedfast import FederatedData, Schedule, Simulation
from fedfast.algorithms import SCAFFOLD, FedAvg, FedProx, FedSAM
from fedfast.data import Samples

from . import torch_model
from .protocol import Rounds, Task, serve


def federated(task: Task) -> FederatedData:
    """The clients' samples."""
    own = np.arange(task.clients * task.samples).reshape(task.clients, -1)
    samples = Samples(torch.from_numpy(task.x), torch.from_numpy(task.y))
    return FederatedData.from_index(samples, own)


class NativeRounds(Rounds):
    """One `Row` of the simulation after another."""

    def __init__(self, task: Task, algorithm: str, setting: str) -> None:
        made = {
            "fedavg": FedAvg(),
            "fedprox": FedProx(mu=task.mu),
            "scaffold": SCAFFOLD(),
            "fedsam": FedSAM(rho=task.rho),
        }[algorithm]
        schedule = Schedule.explicit(list(task.cohorts), [list(map(list, b)) for b in task.batches])
        self.task, net = task, torch_model.module(task)
        self.simulation = Simulation(
            net,
            federated(task),
            made,
            schedule=schedule,
            lr=task.lr,
            threads=int(setting.split()[0]),
        )
        self.rows = iter(self.simulation)

    def round(self, t):
        row = next(self.rows)
        self.task.count(row.clients, row.samples, row.clients * self.task.steps)

    def weights(self):
        return [value.numpy().copy() for value in self.simulation.state_dict().values()]


if __name__ == "__main__":
    serve(Task(sys.argv[1]), NativeRounds, ("torch",))
