"""What a module, a model or an algorithm of the user's own does beside pfl's local loop.

Either it is in the cohort's numbers too, or pfl's loop trains, with a reason: never wrong silently.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("pfl")

import pfl_simulations
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByUser
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.algorithm.fedprox import FedProx, FedProxParams
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.internal.bridge import FrameworkBridgeFactory as bridges
from pfl.internal.bridge.pytorch.proximal import _proximal_train_step
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from pfl.postprocessor.base import Postprocessor
from pfl_simulations import Case, algorithm_params, in_convention, labels, local, mlp, vectors
from torch import Tensor, nn

from fedfast.integrations.pfl import CohortBackend
from fedfast.integrations.pfl.declared_loss import declared_loss

CLOSE = 1e-5


def assert_equal(case: Case, reason: str) -> None:
    """Parameters and metrics; `reason` is in that of the backend, "" where users are batched."""
    expected, rows, _ = case.run(SimulatedBackend)
    ours, own_rows, backend = case.run(CohortBackend)
    assert reason in backend.loop_because and bool(reason) == bool(backend.loop_because)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=CLOSE, atol=CLOSE)
    for row, own in zip(rows, own_rows, strict=True):
        assert own == pytest.approx(row, rel=CLOSE, abs=CLOSE)


class After(TrainingProcessCallback):
    """Changes the module after each round."""

    def __init__(self, change: Callable[[nn.Module], object]) -> None:
        self.change = change

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        self.change(model.pytorch_model)
        return False, Metrics()


def cross_entropy(self: nn.Module, x: Tensor, y: Tensor, **options: object) -> Tensor:
    self.train()
    return F.cross_entropy(self(x), labels(y), **options)


def smoothed() -> nn.Module:
    def loss(self: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(self, x, y, label_smoothing=self.smoothing)

    module = in_convention(mlp(), loss)
    module.smoothing = 0.0
    return module


def weighted() -> nn.Module:
    def loss(self: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(self, x, y, weight=self.weights)

    module = in_convention(mlp(), loss)
    module.register_buffer("weights", torch.ones(5))
    return module


def counting() -> nn.Module:
    """Its gradient falls after twelve batches, whoever's they were."""

    def loss(self: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        return cross_entropy(self, x, y) * (1.0 if self.calls < 12 else 0.2)

    module = in_convention(mlp(), loss)
    module.calls = 0
    return module


def masked() -> nn.Module:
    """The loss leaves samples out by what their inputs are."""

    def loss(self: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        kept = (x[:, 0] < 1.5).float()
        each = cross_entropy(self, x, y, reduction="none")
        return (each * kept).sum() / kept.sum().clamp_min(1)

    return in_convention(mlp(), loss)


def decayed() -> nn.Module:
    def loss(self: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(self, x, y) + 0.05 * sum(p.square().sum() for p in self.parameters())

    return in_convention(mlp(), loss)


def without_modes() -> nn.Module:
    """Dropout stays as the evaluation before has left it."""
    return in_convention(mlp(0.5), lambda self, x, y: F.cross_entropy(self(x), labels(y)))


def callbacks(change: Callable[[nn.Module], object]) -> Callable[..., list]:
    return lambda algorithm, params: [After(change)]


def smoother(module: nn.Module) -> None:
    module.smoothing += 0.3


def reweigh(module: nn.Module) -> None:
    module.weights.mul_(torch.tensor([1.0, 2, 3, 1, 1]))


def freeze(module: nn.Module) -> None:
    module[0].weight.requires_grad_(False)


class Head(FederatedAveraging):
    """Each user begins with another bias."""

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        with torch.no_grad():
            model.pytorch_model[3].bias.add_(1.0)
        bridges.sgd_bridge().do_sgd(model, user_dataset, central_context.model_train_params)
        return model.get_model_difference(initial_model_state), Metrics()


class Frozen(FederatedAveraging):
    """Users train the last layer alone; the module is changed through no method of the model."""

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        variable = model.variable_map["0.weight"].requires_grad_(False)
        bridges.sgd_bridge().do_sgd(model, user_dataset, central_context.model_train_params)
        variable.requires_grad_(True)
        return model.get_model_difference(initial_model_state), Metrics()


class Clamped(FederatedAveraging):
    """Changes what was trained, by a variable that it has from before."""

    def get_next_central_contexts(self, model, *args, **kwargs):
        self.variable = model.variable_map["0.weight"]
        return super().get_next_central_contexts(model, *args, **kwargs)

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        bridges.sgd_bridge().do_sgd(model, user_dataset, central_context.model_train_params)
        self.variable.data.clamp_(-0.2, 0.2)
        return model.get_model_difference(initial_model_state), Metrics()


class ToZero(FedProx):
    """Draws towards zeros in place of the round's parameters."""

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        zeros = {name: torch.zeros_like(v) for name, v in initial_model_state.items()}
        params, mu = central_context.model_train_params, central_context.algorithm_params.mu
        model.do_multiple_epochs_of(
            user_dataset, params, _proximal_train_step, global_weights=zeros, mu=mu
        )
        return model.get_model_difference(initial_model_state), Metrics()


class Short(Dataset):
    """A data set of which two samples count."""

    def __len__(self) -> int:
        return min(2, super().__len__())


def of(algorithm: type) -> Callable[[], tuple]:
    return lambda: (algorithm(), NNAlgorithmParams(**algorithm_params()))


def to_zero() -> tuple[ToZero, FedProxParams]:
    return ToZero(), FedProxParams(mu=0.5, **algorithm_params())


def with_tensors(samples: tuple, user_id: str) -> Dataset:
    """Equal tensors, but not the same."""
    return Dataset(samples, user_id=user_id, train_kwargs={"weight": torch.arange(1.0, 6.0)})


def weighed_by_user() -> nn.Module:
    return in_convention(mlp(), cross_entropy)


slow = partial(local, local_learning_rate=1e-4)
CASES = {
    "attribute": (Case(module=smoothed, callbacks=callbacks(smoother)), ""),
    "buffer": (Case(module=weighted, callbacks=callbacks(reweigh)), ""),
    "tensors as options": (Case(module=weighed_by_user, dataset=with_tensors), ""),
    "short": (Case(dataset=Short), ""),
    "clamped afterwards": (Case(algorithm=of(Clamped)), ""),
    "frozen": (Case(callbacks=callbacks(freeze)), "0.weight was frozen"),
    "counting": (Case(module=counting), "training changes calls"),
    "reads inputs": (Case(module=masked), "it reads the inputs"),
    "slow penalty": (Case(module=decayed, params=slow), "differs from pfl's own result"),
    "no modes": (Case(module=without_modes), "dropout in training mode"),
    "head": (Case(algorithm=of(Head)), "Head trains otherwise"),
    "frozen by the algorithm": (Case(algorithm=of(Frozen)), "Frozen trains otherwise"),
    "to zero": (Case(algorithm=to_zero), "ToZero trains otherwise"),
}


@pytest.mark.filterwarnings("ignore:.*users are trained one by one:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_changes_are_seen(name: str) -> None:
    assert_equal(*CASES[name])


class Signs(PyTorchModel):
    def get_model_difference(self, other_parameters, clone=False):
        difference = super().get_model_difference(other_parameters, clone)
        return difference.apply_elementwise(lambda t: t.sign() * 0.01)


class NoBias(PyTorchModel):
    def set_parameters(self, w):
        super().set_parameters(w)
        self.pytorch_model[0].bias.data.zero_()


@pytest.mark.filterwarnings("ignore:.*users are trained one by one:UserWarning")
@pytest.mark.parametrize("model", [Signs, NoBias])
def test_methods_of_a_model_of_ones_own(model: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pfl_simulations, "PyTorchModel", model)
    assert_equal(Case(), "of its own")


class Failing(Postprocessor):
    """Fails at the last of the first six users; the sampler is then where pfl's is."""

    users = 0

    def postprocess_one_user(self, *, stats, user_context):
        self.users += 1
        if self.users == 6:
            raise RuntimeError("stop")
        return stats, Metrics()

    def postprocess_server(self, *, stats, central_context, aggregate_metrics):
        return stats, Metrics()


def gathered_after_a_failure(backend_class: type) -> dict[str, Tensor]:
    """The sum over a second cohort, on the model and the backend whose first cohort has failed."""
    np.random.seed(0)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    data = {i: vectors(rng, 5) for i in range(8)}
    sampler = get_user_sampler("minimize_reuse", list(data))
    users = FederatedDataset(lambda i: Dataset(data[i], user_id=str(i)), sampler)
    module = mlp()
    start = {name: value.clone() for name, value in module.state_dict().items()}
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), 1.0))
    backend = backend_class(users, users, [WeightByUser(), Failing()])
    algorithm, params = FederatedAveraging(), NNAlgorithmParams(**algorithm_params())
    (context, *_), *_ = algorithm.get_next_central_contexts(model, 1, params, local())
    with pytest.raises(RuntimeError, match="stop"):
        backend.gather_results(model, algorithm, central_context=context)
    module.load_state_dict(start)
    statistics, _ = backend.gather_results(model, algorithm, central_context=context)
    return dict(statistics.items())


def test_a_round_that_fails_leaves_nothing_for_the_next() -> None:
    ours = gathered_after_a_failure(CohortBackend)
    for name, value in gathered_after_a_failure(SimulatedBackend).items():
        torch.testing.assert_close(ours[name], value, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize(
    "options",
    [{"reduction": "sum"}, {"weight": torch.arange(1.0, 6.0)}, {"ignore_index": 0}],
    ids=lambda options: next(iter(options)),
)
def test_one_sample_does_not_make_a_loss_the_mean_cross_entropy(options: dict) -> None:
    """Of one sample, of class 1 alone, each has cross-entropy's value."""
    module = in_convention(mlp(), partial(cross_entropy, **options))
    x, y = torch.randn(1, 20), torch.ones(1, 1)
    assert not declared_loss(module, x, y, {})[1]
    assert declared_loss(in_convention(mlp(), cross_entropy), x, y, {})[1]
