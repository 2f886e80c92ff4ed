"""Layer programs in the Triton backend, interpreted: whole runs against the reference backend."""

from __future__ import annotations

import pytest
import torch
from federation import federation, flat, next_word, sentences, trained
from torch import Tensor, nn

import fedfast
from fedfast.algorithms import Algorithm, FedAvg, FedSAM

pytest.importorskip("triton", reason="Triton is not installed on this platform")


def cnn() -> nn.Module:
    """Convolutions with and without activation, batch norm, pooling and a linear head."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2, 3, 2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(3, 4),
    )


def dropping() -> nn.Module:
    """Planes and elements dropped, log-probabilities in the end."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 3, 3), nn.Dropout2d(0.4), nn.Tanh(), nn.Flatten(), nn.Dropout(0.3)
    return nn.Sequential(*layers, nn.Linear(12, 4), nn.LogSoftmax(1))


def images() -> fedfast.FederatedData:
    return federation([3, 2], shape=(1, 4, 4))


MODELS = {
    "images": (cnn, images),
    "dropout": (dropping, images),
    "words": (next_word, lambda: sentences([3, 2], length=2)),
}


def weights(model: str, algorithm: Algorithm, backend: str, chunk: int | None = None) -> Tensor:
    """The model after a round over ragged clients."""
    make, data = MODELS[model]
    options = dict(rounds=1, participation=1.0, batch_size=2, weight_decay=0.01, chunk=chunk)
    sim = trained(make(), data(), algorithm, dtype=torch.float64, backend=backend, **options)
    assert sim.generic_because == ""
    return flat(sim.state_dict())


@pytest.mark.parametrize(
    ("model", "algorithm"),
    [("images", FedAvg()), *((model, FedSAM(rho=0.1)) for model in MODELS)],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_run_is_that_of_the_reference_backend(model: str, algorithm: Algorithm) -> None:
    expected, found = (weights(model, algorithm, backend) for backend in ("reference", "triton"))
    assert (found - expected).abs().max() <= 1e-12


@pytest.mark.parametrize(
    ("model", "algorithm"),
    [("images", FedSAM(rho=0.1)), ("words", FedAvg())],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_client_alone_is_the_client_in_company(model: str, algorithm: Algorithm) -> None:
    assert torch.equal(*(weights(model, algorithm, "triton", chunk=k) for k in (1, 2)))
