"""`CohortBackend` beside pfl's own `SimulatedBackend`: the same numbers, in every round."""

from __future__ import annotations

import runpy
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("pfl")

from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints, WeightByUser
from pfl.algorithm.fedprox import AdaptMuOnMetricCallback, FedProx, FedProxParams
from pfl.algorithm.scaffold import SCAFFOLD, SCAFFOLDParams
from pfl.data.pytorch import PyTorchDataDataset, PyTorchTensorDataset
from pfl.data.user_state import DiskUserStateStorage, InMemoryUserStateStorage
from pfl.hyperparam import HyperParam
from pfl.internal.ops.selector import get_default_framework_module as get_ops
from pfl.privacy import CentrallyAppliedPrivacyMechanism, GaussianMechanism, LaplaceMechanism
from pfl.stats import MappedVectorStatistics
from pfl_simulations import USERS, Case, algorithm_params, event_loop, in_convention, local, mlp
from torch import Tensor, nn

from fedfast.integrations.pfl import CohortBackend

# pfl 0.6: it copies tensors by torch.tensor() to add noise.
pytestmark = pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
CLOSE = 1e-5


def assert_equal(case: Case) -> None:
    """Parameters and all metrics, 1e-5, and nothing fell back."""
    expected, rows, _ = case.run(SimulatedBackend)
    ours, own_rows, backend = case.run(CohortBackend)
    assert backend.loop_because == ""
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=CLOSE, atol=CLOSE)
    for row, own in zip(rows, own_rows, strict=True):
        assert own == pytest.approx(row, rel=CLOSE, abs=CLOSE)


def fedprox(mu: object = 0.5) -> tuple[FedProx, FedProxParams]:
    return FedProx(), FedProxParams(mu=mu, **algorithm_params())


def scaffold(
    option: str, storage: object = InMemoryUserStateStorage
) -> tuple[SCAFFOLD, SCAFFOLDParams]:
    """6 of 12 users, drawn with replacement: states are read again, within a round too."""
    params = SCAFFOLDParams(
        population=USERS,
        use_gradient_as_control_variate=option == "I",
        user_state_storage=storage(),
        **algorithm_params(),
    )
    return SCAFFOLD(), params


def adaptive_mu() -> tuple[FedProx, FedProxParams]:
    name = "train population | loss before local training"
    return fedprox(AdaptMuOnMetricCallback(name, 2, initial_value=0.3))


class Decaying(HyperParam):
    """A learning rate that halves each time pfl reads it, which is once a round."""

    def __init__(self) -> None:
        self.rate = 0.4

    def value(self) -> float:
        self.rate /= 2
        return self.rate


def central() -> list:
    return [WeightByUser(), CentrallyAppliedPrivacyMechanism(GaussianMechanism(0.3, 0.5))]


def users_own() -> list:
    """Noise of every user, then clipping again: all of it reads each user's own statistics."""
    clipped = CentrallyAppliedPrivacyMechanism(GaussianMechanism(0.5, 0.1))
    return [WeightByDatapoints(), LaplaceMechanism(0.3, 5.0), clipped]


CASES = {
    "fedavg": Case(),
    "datapoints": Case(postprocessors=lambda: [WeightByDatapoints()]),
    "fedprox": Case(algorithm=fedprox),
    "adaptive mu": Case(algorithm=adaptive_mu, callbacks=lambda a, params: [params.mu]),
    "scaffold II": Case(algorithm=partial(scaffold, "II")),
    "scaffold I": Case(algorithm=partial(scaffold, "I")),
    "central privacy": Case(postprocessors=central),
    "local privacy": Case(postprocessors=users_own),
    "scaffold and privacy": Case(algorithm=partial(scaffold, "II"), postprocessors=central),
    "whole data sets": Case(params=partial(local, local_batch_size=None, local_num_epochs=2)),
    "epochs": Case(params=partial(local, local_num_epochs=3)),
    "steps": Case(params=partial(local, local_num_epochs=None, local_num_steps=2)),
    "clipped": Case(params=partial(local, local_max_grad_norm=0.1)),
    "clipped fedprox": Case(algorithm=fedprox, params=partial(local, local_max_grad_norm=0.1)),
    "accumulated": Case(
        params=partial(local, local_batch_size=1, local_num_epochs=2, grad_accumulation_steps=2)
    ),
    "scheduled rate": Case(params=lambda: local(local_learning_rate=Decaying())),
    "weight decay": Case(optimizer=partial(torch.optim.SGD, weight_decay=0.1)),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_pfl(name: str) -> None:
    assert_equal(CASES[name])


class Keeping(WeightByDatapoints):
    """Keeps two copies of every user's statistics; nothing reads the first before the end."""

    def __init__(self) -> None:
        self.kept: list[MappedVectorStatistics] = []

    def postprocess_one_user(self, *, stats, user_context):
        self.kept.append(stats.apply_elementwise(get_ops().clone))
        self.kept.append(stats.apply_elementwise(torch.clone))
        return super().postprocess_one_user(stats=stats, user_context=user_context)


def test_copies_of_statistics_outlive_the_user() -> None:
    found = []
    for backend in (SimulatedBackend, CohortBackend):
        keeping = Keeping()
        Case(postprocessors=partial(list, [keeping])).run(backend)
        found.append([dict(stats.items()) for stats in keeping.kept])
    assert len(found[0]) == len(found[1]) == 2 * 3 * 6
    for expected, own in zip(*found, strict=True):
        for name, value in expected.items():
            torch.testing.assert_close(own[name], value, rtol=CLOSE, atol=CLOSE)


def test_states_on_disk(tmp_path: Path) -> None:
    """Each run in a folder of its own; torch must be told that pfl's class may be read."""
    folders = iter(str(tmp_path / name) for name in ("pfl", "fedfast"))
    make = partial(scaffold, "I", lambda: DiskUserStateStorage(next(folders)))
    with torch.serialization.safe_globals([MappedVectorStatistics]):
        assert_equal(Case(algorithm=make))


def squared(self: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    self.train()
    return ((self(x)[:, 0] - y[:, 0]) ** 2).mean()


def by_squares() -> nn.Module:
    return in_convention(mlp(), squared)


class Pairs(torch.utils.data.Dataset):
    """A map-style dataset of what one user has."""

    def __init__(self, samples: tuple[np.ndarray, np.ndarray]) -> None:
        self.x, self.y = map(torch.as_tensor, samples)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i], self.y[i]


def by_loader(samples: tuple[np.ndarray, np.ndarray], user_id: str) -> PyTorchDataDataset:
    return PyTorchDataDataset(Pairs(samples), user_id=user_id)


def as_tensors(samples: tuple[np.ndarray, np.ndarray], user_id: str) -> PyTorchTensorDataset:
    x, y = map(torch.as_tensor, samples)
    return PyTorchTensorDataset((x, y[:, 0]), user_id=user_id, train_kwargs={"eval": False})


def test_a_loss_of_the_users_own() -> None:
    slow = partial(local, local_learning_rate=0.01)
    assert_equal(Case(module=by_squares, params=slow))


@pytest.mark.parametrize("dataset", [by_loader, as_tensors])
def test_datasets_of_torch(dataset: object) -> None:
    assert_equal(Case(dataset=dataset, params=partial(local, local_num_epochs=2)))


class ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute((0, 3, 1, 2))


def cnn(dropout: float = 0.0, side: int = 10, channels: int = 3, classes: int = 5) -> nn.Module:
    """The shape of pfl's CIFAR-10 benchmark model, images [n, H, W, C]."""
    flat = 8 * ((side - 4) // 2) ** 2
    layers = (
        ChannelsFirst(),
        *(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(dropout / 2), nn.Flatten(), nn.Linear(flat, 16), nn.ReLU()),
        *(nn.Dropout(dropout), nn.Linear(16, classes)),
    )
    return in_convention(nn.Sequential(*layers))


def images(
    rng: np.random.Generator, n: int, side: int = 10, channels: int = 3, classes: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(n, side, side, channels)).astype(np.float32)
    return x, rng.integers(classes, size=(n, 1))


def test_images_of_cifar_form() -> None:
    assert_equal(Case(module=cnn, samples=images))


def test_images_of_femnist_form() -> None:
    form = {"side": 28, "channels": 1, "classes": 62}
    assert_equal(Case(module=partial(cnn, **form), samples=partial(images, **form)))


def test_dropout_is_drawn_anew_and_reproducible() -> None:
    """Masks are fedfast's own: the same for the same seed of NumPy's, others for another."""
    first, *_, backend = Case(module=partial(cnn, 0.5), samples=images).run(CohortBackend)
    again, *_ = Case(module=partial(cnn, 0.5), samples=images).run(CohortBackend)
    plain, *_ = Case(module=cnn, samples=images).run(CohortBackend)
    assert backend.loop_because == ""
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert not torch.allclose(first["8.weight"], plain["8.weight"], atol=1e-4)


def test_users_that_diverge_spoil_the_sum_as_in_pfl() -> None:
    case = Case(params=partial(local, local_learning_rate=1e30), module=by_squares)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, *_ = case.run(SimulatedBackend)
        ours, *_ = case.run(CohortBackend)
    bad = {name for name, value in expected.items() if not value.isfinite().all()}
    assert bad and bad == {name for name, value in ours.items() if not value.isfinite().all()}


def test_the_example_learns(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parent.parent / "examples" / "pfl_digits.py"
    with event_loop():
        assert runpy.run_path(str(path))["main"](10) > 0.8
    assert "trained one by one: nobody" in capsys.readouterr().out
