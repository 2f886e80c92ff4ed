"""pfl-research: `SimulatedBackend` in one process, evaluation off."""

import asyncio
import sys

import torch
import torch.nn.functional as F
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.algorithm.fedprox import FedProx, FedProxParams
from pfl.algorithm.scaffold import SCAFFOLD, SCAFFOLDParams
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.user_state import InMemoryUserStateStorage
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.model.pytorch import PyTorchModel
from torch import nn

from . import torch_model
from .protocol import Rounds, Task, Unsupported, serve


class Classifier(nn.Sequential):
    """The model with pfl's two methods."""

    def loss(self, x, y):
        """Mean cross-entropy."""
        return F.cross_entropy(self(x), y)

    def metrics(self, x, y):
        """None: evaluation is off."""
        return {}


def federated(task: Task) -> FederatedDataset:
    """Users in the schedule's order, each user's samples in its order of use."""
    samples = torch_model.Samples(task)
    turns = ((t, j) for t in range(len(task.cohorts)) for j in range(task.cohort))

    def user(turn) -> Dataset:
        task.count(1, task.samples, task.steps)
        return Dataset(samples.own(*turn), user_id=str(task.cohorts[turn]))

    return FederatedDataset(user, lambda: next(turns))


class PflRounds(Rounds):
    """`algorithm.run` for one iteration more at a time, which goes on where it was."""

    def __init__(self, task: Task, algorithm: str, backend=SimulatedBackend) -> None:
        net = Classifier(*torch_model.module(task))
        self.model = PyTorchModel(
            model=net,
            local_optimizer_create=torch.optim.SGD,
            central_optimizer=torch.optim.SGD(net.parameters(), 1.0),
        )
        data = federated(task)
        self.backend = backend(training_data=data, val_data=data)
        self.local = NNTrainHyperParams(
            local_batch_size=task.batch_size, local_num_epochs=1, local_learning_rate=task.lr
        )
        make, self.params, self.extra = {
            "fedavg": (FederatedAveraging, NNAlgorithmParams, {}),
            "fedprox": (FedProx, FedProxParams, {"mu": task.mu}),
            "scaffold": (
                SCAFFOLD,
                SCAFFOLDParams,
                {
                    "population": task.clients,
                    "use_gradient_as_control_variate": False,
                    "user_state_storage": InMemoryUserStateStorage(),
                },
            ),
        }[algorithm]
        self.algorithm, self.task = make(), task

    def round(self, t):
        params = self.params(
            central_num_iterations=t + 1,
            evaluation_frequency=10**9,
            train_cohort_size=self.task.cohort,
            val_cohort_size=0,
            **self.extra,
        )
        self.algorithm.run(params, self.backend, self.model, self.local)

    def weights(self):
        return torch_model.weights(self.model.pytorch_model)


def start(task: Task, algorithm: str, setting: str, rounds=PflRounds) -> Rounds:
    """FedAvg, FedProx and SCAFFOLD."""
    if algorithm == "fedsam":
        raise Unsupported("no fedsam")
    torch_model.use(setting)
    asyncio.set_event_loop(asyncio.new_event_loop())
    return rounds(task, algorithm)


if __name__ == "__main__":
    serve(Task(sys.argv[1]), start, ("pfl", "torch"))
