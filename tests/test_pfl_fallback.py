"""What cannot be batched is trained by pfl's own loop: the very same numbers, and a reason."""

from __future__ import annotations

import importlib
import sys
from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("pfl")

from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam import NNTrainHyperParams
from pfl.internal.bridge import FrameworkBridgeFactory as bridges
from pfl.metrics import Metrics
from pfl_simulations import Case, algorithm_params, in_convention, labels, local, mlp
from torch import Tensor, nn

from fedfast.integrations.pfl import CohortBackend
from fedfast.integrations.pfl.input_layout import split_head


class Doubled(FederatedAveraging):
    """Trains twice; the second call is none that is known of FedAvg."""

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        for _ in range(2):
            bridges.sgd_bridge().do_sgd(model, user_dataset, central_context.model_train_params)
        return model.get_model_difference(initial_model_state), Metrics()


class Untrained(FederatedAveraging):
    """Trains nobody."""

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        return model.get_model_difference(initial_model_state), Metrics()


class OtherRate(FederatedAveraging):
    """Trains at a rate of each user's own."""

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        rate = 0.01 * len(user_dataset)
        params = central_context.model_train_params.static_clone(local_learning_rate=rate)
        bridges.sgd_bridge().do_sgd(model, user_dataset, params)
        return model.get_model_difference(initial_model_state), Metrics()


class OwnSimulation(FederatedAveraging):
    def simulate_one_user(self, model, user_dataset, central_context):
        return super().simulate_one_user(model, user_dataset, central_context)


def of(algorithm: type) -> object:
    return lambda: (algorithm(), NNAlgorithmParams(**algorithm_params()))


def decayed(self: nn.Module, x: Tensor, y: Tensor, eval: bool = False) -> Tensor:
    """Cross-entropy and a penalty on the weights, which is no function of the outputs."""
    self.train()
    penalty = sum(p.square().sum() for p in self.parameters())
    return nn.functional.cross_entropy(self(x), labels(y)) + 0.01 * penalty


def normalised() -> nn.Module:
    layers = nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5)
    return in_convention(nn.Sequential(*layers))


def whole() -> NNTrainHyperParams:
    """One step on all of a user's samples: batch norm is never given one sample alone."""
    return local(local_batch_size=None)


def by_name(samples: tuple[np.ndarray, np.ndarray], user_id: str) -> PyTorchTensorDataset:
    x, y = map(torch.as_tensor, samples)
    return PyTorchTensorDataset({"x": x, "y": y}, user_id=user_id)


CASES = {
    "is Adam, not": Case(optimizer=torch.optim.Adam),
    "SGD with momentum": Case(optimizer=partial(torch.optim.SGD, momentum=0.9)),
    "weight differs from pfl's own result": Case(
        module=lambda: in_convention(mlp(), decayed), params=whole
    ),
    "training changes 1.running_mean": Case(module=normalised, params=whole),
    "batches of unlike sizes": Case(params=partial(local, grad_accumulation_steps=2)),
    "is not \\(inputs, targets\\)": Case(dataset=by_name),
    "Untrained trains otherwise": Case(algorithm=of(Untrained)),
    "OtherRate trains otherwise": Case(algorithm=of(OtherRate)),
    "OwnSimulation simulates a user": Case(algorithm=of(OwnSimulation)),
}


@pytest.mark.parametrize("reason", CASES)
def test_pfl_trains_what_a_cohort_cannot(reason: str) -> None:
    """One warning in three rounds."""
    case = CASES[reason]
    expected, rows, _ = case.run(SimulatedBackend)
    with pytest.warns(UserWarning, match=f"by pfl's own loop, since .*{reason}") as told:
        ours, own_rows, backend = case.run(CohortBackend)
    assert len(told) == 1 and backend.loop_because in str(told[0].message)
    compare(expected, rows, ours, own_rows)


def test_a_second_call_is_trained_from_where_the_first_has_ended() -> None:
    case = Case(algorithm=of(Doubled))
    expected, rows, _ = case.run(SimulatedBackend)
    ours, own_rows, backend = case.run(CohortBackend)
    assert backend.loop_because == ""
    compare(expected, rows, ours, own_rows)


def compare(
    expected: dict[str, Tensor], rows: list, ours: dict[str, Tensor], own_rows: list
) -> None:
    """Closer than 1e-6: users before the first that is unfit may have trained in a cohort."""
    for row, own in zip(rows, own_rows, strict=True):
        assert own == pytest.approx(row, rel=1e-6, abs=1e-6)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-6)


class Forward(nn.Module):
    """Scales and turns its images in `forward`, before its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 2, 3), nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first((x / 255).permute(0, 3, 1, 2))
        return self.last(x.mean((2, 3)))


def test_the_head_of_a_module_and_its_rest_are_the_module() -> None:
    module, x = Forward(), torch.rand(5, 6, 6, 3) * 255
    head, rest = split_head(module)
    assert head(x).shape == (5, 3, 6, 6)
    torch.testing.assert_close(rest(head(x)), module(x))
    shared = dict(rest.named_parameters())
    assert all(shared[name] is p for name, p in module.named_parameters())
    assert len(shared) == 4


@pytest.mark.parametrize("module", [nn.Linear(3, 2), nn.Sequential(nn.Dropout(0.5), nn.Flatten())])
def test_layers_and_draws_are_no_head(module: nn.Module) -> None:
    assert split_head(module) is None


def test_without_pfl_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pfl", None)
    monkeypatch.delitem(sys.modules, "fedfast.integrations.pfl")
    with pytest.raises(ImportError, match=r"fedfast\[pfl\]"):
        importlib.import_module("fedfast.integrations.pfl")
