"""Layer programs in the Triton voice, interpreted: whole runs against the reference voice."""

from __future__ import annotations

import pytest
import torch
from federation import federation, flat
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


def trained(algorithm: Algorithm, backend: str, chunk: int | None = None) -> Tensor:
    """The model after a round over ragged clients."""
    data = federation([3, 2], shape=(1, 4, 4))
    sim = fedfast.Simulation(
        cnn(),
        data,
        algorithm,
        rounds=1,
        participation=1.0,
        batch_size=2,
        weight_decay=0.01,
        dtype=torch.float64,
        backend=backend,
        chunk=chunk,
    )
    assert sim.generic_because == ""
    sim.run(progress=False)
    return flat(sim.state_dict())


@pytest.mark.parametrize("algorithm", [FedAvg(), FedSAM(rho=0.1)], ids=lambda a: a.name)
def test_a_run_is_the_reference_voices_run(algorithm: Algorithm) -> None:
    expected, found = (trained(algorithm, backend) for backend in ("reference", "triton"))
    assert (found - expected).abs().max() <= 1e-12


def test_a_client_alone_is_the_client_in_company() -> None:
    assert torch.equal(*(trained(FedSAM(rho=0.1), "triton", chunk=k) for k in (1, 2)))
