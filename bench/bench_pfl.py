"""Rounds of pfl-research: `CohortBackend` beside its own `SimulatedBackend`, in turns.

    python bench/bench_pfl.py [--only W2,W3] [--algorithm fedavg] [--threads 2] [--rounds 9] [--write]

W2 and W3 of workloads.py as pfl's `FederatedDataset`s, the same users in the same order on both
sides; weighting by datapoints, evaluation in round 0 alone, which warms up and is not counted. The
two must agree on users, datapoints and the norm of every round's update, or nothing is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from alternate import alternate_rounds, torch_threads
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.algorithm_utils import run_train_eval
from pfl.algorithm.base import FederatedAlgorithm, NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.algorithm.fedprox import FedProx, FedProxParams
from pfl.algorithm.scaffold import SCAFFOLD, SCAFFOLDParams
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import MinimizeReuseUserSampler
from pfl.data.user_state import InMemoryUserStateStorage
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted, get_overall_value
from pfl.model.pytorch import PyTorchModel
from result_files import append, quantiles, stamp
from torch import Tensor, nn
from workloads import LR, WORKLOADS, Workload

from fedfast.integrations.pfl import CohortBackend

CLOSE = 1e-4  # of two rounds' norms, relative
ALGORITHMS = ("fedavg", "fedprox", "scaffold")


class Classifier(nn.Module):
    """A module in pfl's convention: with `loss` and `metrics`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        self.train()
        return F.cross_entropy(self(x), y)

    @torch.no_grad()
    def metrics(self, x: Tensor, y: Tensor) -> dict[str, Weighted]:
        self.eval()
        return {"loss": Weighted(F.cross_entropy(self(x), y, reduction="sum").item(), len(x))}


def algorithm_of(name: str, workload: Workload) -> tuple[FederatedAlgorithm, NNAlgorithmParams]:
    common = {
        "central_num_iterations": 10**6,
        "evaluation_frequency": 10**6,
        "train_cohort_size": workload.cohort,
        "val_cohort_size": None,
    }
    if name == "fedprox":
        return FedProx(), FedProxParams(mu=0.01, **common)
    if name == "scaffold":
        storage = InMemoryUserStateStorage()
        return SCAFFOLD(), SCAFFOLDParams(
            population=workload.clients,
            use_gradient_as_control_variate=False,
            user_state_storage=storage,
            **common,
        )
    return FederatedAveraging(), NNAlgorithmParams(**common)


@dataclass
class PflRounds:
    """One of pfl's simulations, round by round.

    seen  (users, datapoints, norm of the averaged update) of every round
    """

    workload: Workload
    backend_class: type[SimulatedBackend]
    algorithm_name: str = "fedavg"
    seen: list[tuple[float, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        np.random.seed(0)  # users are sampled and seeds drawn from it
        data, workload = self.workload.data(), self.workload
        users = [Dataset((part.x, part.y), str(i)) for i, part in enumerate(map(data.client, range(data.num_clients)))]
        users = FederatedDataset(users.__getitem__, MinimizeReuseUserSampler(range(len(users))))
        module = Classifier(workload.module())
        sgd = torch.optim.SGD(module.parameters(), 1.0)
        self.model = PyTorchModel(module, torch.optim.SGD, sgd)
        self.backend = self.backend_class(users, users, [WeightByDatapoints()])
        self.algorithm, self.params = algorithm_of(self.algorithm_name, workload)
        self.local = NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=LR, local_batch_size=workload.batch
        )

    def __call__(self, t: int) -> None:
        """Round t: the body of pfl's `FederatedAlgorithm.run`."""
        contexts, _, _ = self.algorithm.get_next_central_contexts(
            self.model, t, self.params, self.local, NNEvalHyperParams(local_batch_size=None)
        )
        ((update, metrics),) = run_train_eval(self.algorithm, self.backend, self.model, contexts)
        _, _ = self.algorithm.process_aggregated_statistics_from_all_contexts(
            ((contexts[0], update),), metrics, self.model
        )
        self.seen.append(summary(update, metrics))


def summary(update: dict[str, Tensor], metrics: Metrics) -> tuple[float, float, float]:
    counts = (f"train population | number of {what}" for what in ("devices", "data points"))
    norm = torch.stack([tensor.norm() for tensor in update.values()]).norm()
    users, points = (float(get_overall_value(metrics[name])) for name in counts)
    return users, points, float(norm)


def measure(workload: Workload, algorithm: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round by contestant; ValueError where they have not done the same work."""
    sides = {
        "fedfast": PflRounds(workload, CohortBackend, algorithm),
        "pfl": PflRounds(workload, SimulatedBackend, algorithm),
    }
    seconds, _ = alternate_rounds(list(sides.values()), rounds)
    ours, theirs = (np.array(side.seen) for side in sides.values())
    if not np.allclose(ours, theirs, rtol=CLOSE, atol=0):
        raise ValueError(f"{workload.name}: unlike work: {ours.tolist()} and {theirs.tolist()}")
    reason = sides["fedfast"].backend.loop_because
    if reason:
        raise ValueError(f"{workload.name}: no cohort was trained: {reason}")
    return dict(zip(sides, seconds, strict=True))


def main(argv: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", default="W2,W3", help="workloads, with commas between")
    options.add_argument("--algorithm", default="fedavg", choices=ALGORITHMS)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--write", action="store_true", help="append to results/pfl.csv")
    given = options.parse_args(argv)
    asyncio.set_event_loop(asyncio.new_event_loop())  # pfl runs its rounds in it
    for workload in (w for w in WORKLOADS if w.name in given.only.split(",")):
        with torch_threads(given.threads):
            seconds = measure(workload, given.algorithm, given.rounds)
        ratio = statistics.median(seconds["pfl"]) / statistics.median(seconds["fedfast"])
        print(f"{workload.title}, {given.algorithm}, {given.threads} threads: {ratio:.1f} times")
        for name, spent in seconds.items():
            row = {"workload": workload.name, "algorithm": given.algorithm, "contestant": name}
            row |= quantiles(spent)
            print("   ", row)
            if given.write:
                append("pfl", stamp(given.threads) | row)


if __name__ == "__main__":
    main()
