"""Small simulations of pfl-research, run by its own backend or by fedfast's."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pfl.aggregate.weighting import WeightByUser
from pfl.algorithm.base import FederatedAlgorithm, NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted, user_average
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn

USERS, CLASSES = 12, 5


def labels(y: Tensor) -> Tensor:
    return y.reshape(len(y)).long()


def loss(self: nn.Module, x: Tensor, y: Tensor, eval: bool = False) -> Tensor:
    """pfl's convention; targets arrive as floats [n, 1], since pfl turns arrays into floats."""
    self.eval() if eval else self.train()
    return F.cross_entropy(self(x), labels(y))


@torch.no_grad()
def metrics(self: nn.Module, x: Tensor, y: Tensor, eval: bool = True) -> dict[str, object]:
    self.eval() if eval else self.train()
    z, n = self(x), len(x)
    right = Weighted((z.argmax(1) == labels(y)).sum().item(), n)
    total = F.cross_entropy(z, labels(y), reduction="sum").item()
    return {"loss": Weighted(total, n), "accuracy": right, "per user": (right, user_average)}


def in_convention(module: nn.Module, loss: Callable[..., Tensor] = loss) -> nn.Module:
    """With `loss` and `metrics` as methods, attached as pfl's own benchmarks do."""
    module.loss = types.MethodType(loss, module)
    module.metrics = types.MethodType(metrics, module)
    return module


def mlp(dropout: float = 0.0) -> nn.Module:
    layers = nn.Linear(20, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, CLASSES)
    return in_convention(nn.Sequential(*layers))


def vectors(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(n, 20)).astype(np.float32), rng.integers(CLASSES, size=(n, 1))


def algorithm_params(**options: object) -> dict[str, object]:
    """What all of pfl's algorithms take."""
    return {
        "central_num_iterations": 3,
        "evaluation_frequency": 2,
        "train_cohort_size": 6,
        "val_cohort_size": 2,
    } | options


def local(**options: object) -> NNTrainHyperParams:
    given = {"local_num_epochs": 1, "local_learning_rate": 0.2, "local_batch_size": 4}
    return NNTrainHyperParams(**(given | options))


class Recorder(TrainingProcessCallback):
    """Keeps every round's metrics."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: object, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        self.rows.append(aggregate_metrics.to_simple_dict())
        return False, Metrics()


@contextmanager
def event_loop() -> Iterator[None]:
    """pfl runs its rounds in the current event loop, which a script has to make."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@dataclass
class Case:
    """An experiment of pfl's; `run` makes everything anew from fixed seeds."""

    module: Callable[[], nn.Module] = mlp
    algorithm: Callable[[], tuple[FederatedAlgorithm, NNAlgorithmParams]] = lambda: (
        FederatedAveraging(),
        NNAlgorithmParams(**algorithm_params()),
    )
    params: Callable[[], NNTrainHyperParams] = local
    postprocessors: Callable[[], list] = lambda: [WeightByUser()]
    samples: Callable[[np.random.Generator, int], object] = vectors
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD
    dataset: Callable[..., object] = Dataset
    callbacks: Callable[[FederatedAlgorithm, NNAlgorithmParams], list] = lambda a, p: []
    seed: int = 0

    def run(self, backend_class: type) -> tuple[dict[str, Tensor], list[dict[str, float]], object]:
        """(parameters in the end, metrics of all rounds, the backend)."""
        np.random.seed(self.seed)
        torch.manual_seed(self.seed)
        rng = np.random.default_rng(1)
        data = {str(i): self.samples(rng, int(rng.integers(3, 20))) for i in range(USERS)}
        users = FederatedDataset(
            lambda i: self.dataset(data[i], user_id=i), get_user_sampler("random", list(data))
        )
        module = self.module()
        server = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 1.0)
        model = PyTorchModel(module, self.optimizer, server)
        backend = backend_class(users, users, self.postprocessors())
        algorithm, params = self.algorithm()
        recorder = Recorder()
        with event_loop():
            algorithm.run(
                params,
                backend,
                model,
                self.params(),
                NNEvalHyperParams(local_batch_size=None),
                [*self.callbacks(algorithm, params), recorder],
                send_metrics_to_platform=False,
            )
        return {n: p.detach() for n, p in module.state_dict().items()}, recorder.rows, backend
