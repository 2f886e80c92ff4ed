"""pfl-research on fedfast: handwritten digits, 40 users, central differential privacy.

    python examples/pfl_digits.py            # pip install "fedfast[pfl]"

The script is one of pfl's; fedfast is in one line of it, marked below.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import torch.nn.functional as F
from pfl.aggregate.weighting import WeightByUser
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.central_evaluation import CentralEvaluationCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Weighted
from pfl.model.pytorch import PyTorchModel
from pfl.privacy import CentrallyAppliedPrivacyMechanism, GaussianMechanism
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fedfast.integrations.pfl import CohortBackend


class Net(nn.Module):
    """An MLP in pfl's convention: `loss` and `metrics` are methods of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        self.train()
        return F.cross_entropy(self(x), y.long())

    @torch.no_grad()
    def metrics(self, x: Tensor, y: Tensor) -> dict[str, Weighted]:
        self.eval()
        right = (self(x).argmax(1) == y.long()).sum().item()
        return {"accuracy": Weighted(right, len(x))}


def main(rounds: int = 20) -> float:
    """Train; returns the accuracy on the last 297 digits."""
    np.random.seed(0)
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    parts = np.array_split(np.arange(1500), 40)
    users = FederatedDataset(
        lambda i: Dataset((x[parts[i]], y[parts[i]]), user_id=str(i)),
        get_user_sampler("random", range(40)),
    )
    net = Net()
    model = PyTorchModel(net, torch.optim.SGD, torch.optim.SGD(net.parameters(), 1.0))
    noise = CentrallyAppliedPrivacyMechanism(GaussianMechanism(1.0, 0.02))
    backend = CohortBackend(  # was: SimulatedBackend(
        training_data=users, val_data=users, postprocessors=[WeightByUser(), noise]
    )
    test = Dataset((x[1500:], y[1500:]))
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=5,
            train_cohort_size=10,
            val_cohort_size=0,
        ),
        backend,
        model,
        NNTrainHyperParams(local_num_epochs=5, local_learning_rate=0.3, local_batch_size=10),
        NNEvalHyperParams(local_batch_size=None),
        [CentralEvaluationCallback(test, frequency=5)],
    )
    accuracy = model.evaluate(test)["accuracy"].overall_value
    print(f"accuracy {accuracy:.3f}; trained one by one: {backend.loop_because or 'nobody'}")
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
