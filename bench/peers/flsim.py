"""FLSim: its synchronous trainer, one round per call of `train`, evaluation and reports off."""

import logging
import sys

from flsim.active_user_selectors.simple_user_selector import SequentialActiveUserSelectorConfig
from flsim.clients.base_client import ClientConfig
from flsim.data.data_provider import IFLDataProvider, IFLUserData
from flsim.optimizers.local_optimizers import LocalOptimizerFedProxConfig, LocalOptimizerSGDConfig
from flsim.servers.sync_servers import FedAvgOptimizerConfig, SyncServerConfig
from flsim.trainers.sync_trainer import SyncTrainerConfig
from flsim.utils.example_utils import FLModel
from hydra.utils import instantiate
from omegaconf import OmegaConf

from . import torch_model
from .protocol import Rounds, Task, Unsupported, serve


class User(IFLUserData):
    """The cohort's client j in round t."""

    def __init__(self, samples: torch_model.Samples, t: int, j: int) -> None:
        self.samples, self.turn, self.task = samples, (t, j), samples.task

    def train_data(self):
        for x, y in self.samples.batches(*self.turn):
            yield {"features": x, "labels": y}

    def eval_data(self):
        return iter(())

    def num_train_examples(self):
        return self.task.samples

    def num_train_batches(self):
        return self.task.steps

    def num_eval_examples(self):
        return 0

    def num_eval_batches(self):
        return 0


class Provider(IFLDataProvider):
    """FLSim takes users in turn, 0 to K - 1 in its first round; they are the schedule's."""

    def __init__(self, task: Task) -> None:
        self.task, self.samples, self.round = task, torch_model.Samples(task), 0

    def get_train_user(self, user_index):
        return User(self.samples, self.round, user_index % self.task.cohort)

    def train_user_ids(self):
        return list(range(self.task.clients))

    def num_train_users(self):
        return self.task.clients

    def train_users(self):
        return (self.get_train_user(i) for i in self.train_user_ids())

    def eval_users(self):
        return ()

    def test_users(self):
        return ()


class FLSimRounds(Rounds):
    """`SyncTrainer.train` for a fraction K / N of an epoch, which is one round."""

    def __init__(self, task: Task, optimizer) -> None:
        self.task, self.provider = task, Provider(task)
        config = SyncTrainerConfig(
            epochs=task.cohort / task.clients,
            users_per_round=task.cohort,
            do_eval=False,
            eval_epoch_frequency=task.cohort / task.clients,  # checked though evaluation is off
            report_train_metrics=False,
            client=ClientConfig(epochs=1, optimizer=optimizer, shuffle_batch_order=False),
            server=SyncServerConfig(
                server_optimizer=FedAvgOptimizerConfig(),
                active_user_selector=SequentialActiveUserSelectorConfig(),
            ),
        )
        self.net = torch_model.module(task)
        self.trainer = instantiate(
            OmegaConf.structured(config), model=FLModel(self.net), cuda_enabled=False
        )

    def round(self, t):
        self.provider.round = t
        self.trainer.train(self.provider, None, self.task.clients, distributed_world_size=1)

    def weights(self):
        return torch_model.weights(self.trainer.global_model().fl_get_module())


def start(task: Task, algorithm: str, setting: str) -> Rounds:
    """FedAvg and FedProx."""
    if algorithm not in ("fedavg", "fedprox"):
        raise Unsupported(f"no {algorithm}")
    torch_model.use(setting)
    logging.disable(logging.INFO)
    optimizer = (
        LocalOptimizerSGDConfig(lr=task.lr)
        if algorithm == "fedavg"
        else LocalOptimizerFedProxConfig(lr=task.lr, mu=task.mu)
    )
    return FLSimRounds(task, optimizer)


if __name__ == "__main__":
    serve(Task(sys.argv[1]), start, ("flsim", "torch"))
