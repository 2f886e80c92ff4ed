"""Runs whose local steps are one launch of the resident MLP, beside runs without it."""

from __future__ import annotations

from pathlib import Path

import host_cuda
import pytest
import torch
from federation import federation, final, flat
from torch import nn

import fedfast
from fedfast import algorithms as A
from fedfast.cli import main
from fedfast.programs import resident

SIZES = [23, 9, 4, 14, 1]
OPTIONS = dict(participation=1.0, rounds=3, lr=0.1, local_epochs=2, batch_size=4, seed=1)
# What ascends otherwise than SAM, or descends along more than the gradient and constant rows.
STEPWISE = {"fedasam", "fedfsa", "fedlesam", "fedlesam-d", "fedlesam-s", "fednsam-single"}
STEPWISE |= {"fedsagm", "fedsmoo", "fedsol", "fedwmsam"}
ODD = {"fedcr", "fedsgd"}  # a model of its own, batches of its own
METHODS = {
    "weight decay": (A.FedSAM(rho=0.1), dict(weight_decay=0.05)),
    "clip": (A.FedAvg(), dict(clip_norm=0.2)),
    "sam, clip": (A.FedSAM(rho=0.1), dict(clip_norm=0.2)),
    "momentum": (A.FedAvg(local=fedfast.SGD(momentum=0.9)), dict(weight_decay=0.01)),
    "nesterov": (A.FedAvg(local=fedfast.SGD(momentum=0.8, nesterov=True)), {}),
} | {name: (name, {}) for name in set(A.ALGORITHMS) - STEPWISE - ODD}


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    return host_cuda.module(tmp_path_factory.getbasetemp().parent)


class Counted:
    """The module; `launches` of it."""

    def __init__(self, module):
        self.module, self.device, self.launches = module, module.device, 0
        self.plan, self.clusters = module.plan, module.clusters

    def train(self, given, stream):
        self.launches += 1
        self.module.train(given, stream)


@pytest.fixture
def launched(built, monkeypatch):
    counted = Counted(built)
    monkeypatch.setattr(resident, "compiled", lambda: counted)
    return counted


def mlp(hidden=9, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 4)).to(
        dtype
    )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_run_is_that_of_the_other_kernels(name, launched, monkeypatch):
    algorithm, more = METHODS[name]
    found = final(mlp(), federation(SIZES), algorithm, **OPTIONS, **more)
    passes = 2 if name == "naive-fedgloss" else 1  # a round of it trains twice
    assert launched.launches == passes * OPTIONS["rounds"]
    monkeypatch.setattr(resident, "compiled", lambda: None)
    expected = final(mlp(), federation(SIZES), algorithm, **OPTIONS, **more)
    assert (found - expected).norm() < 1e-5 * expected.norm()
    assert launched.launches == passes * OPTIONS["rounds"]


@pytest.mark.parametrize("precision", ["fp32", "tf32x3", "tf32", "bf16"])
def test_it_serves_whoever_wants_results_as_exact_as_float32(precision, launched):
    """Others have permitted what is faster on tensor cores."""
    final(mlp(), federation(SIZES), precision=precision, **OPTIONS)
    exact = precision in ("fp32", "tf32x3")
    assert launched.launches == (OPTIONS["rounds"] if exact else 0)


@pytest.mark.parametrize("name", sorted(STEPWISE))
def test_other_algorithms_take_their_steps_as_ever(name, launched):
    final(mlp(), federation(SIZES), name, **OPTIONS | dict(rounds=1))
    assert launched.launches == 0


def test_two_hidden_layers(launched, monkeypatch):
    model = fedfast.models.build("mlp", input_shape=(8,), classes=4, hidden=(9, 7))
    found = final(model, federation(SIZES), A.FedSAM(rho=0.1), **OPTIONS)
    assert launched.launches == OPTIONS["rounds"]
    monkeypatch.setattr(resident, "compiled", lambda: None)
    expected = final(model, federation(SIZES), A.FedSAM(rho=0.1), **OPTIONS)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_losses_are_those_of_the_other_kernels(launched, monkeypatch):
    def losses():
        sim = fedfast.Simulation(mlp(), federation(SIZES), A.FedSAM(rho=0.2), **OPTIONS)
        sim.run(progress=False)
        return [row.train_loss for row in sim.history]

    found = losses()
    monkeypatch.setattr(resident, "compiled", lambda: None)
    assert found == pytest.approx(losses(), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 2])
def test_no_bit_depends_on_the_chunk(chunk, launched):
    whole = final(mlp(), federation(SIZES), A.SCAFFOLD(), **OPTIONS)
    parts = final(mlp(), federation(SIZES), A.SCAFFOLD(), chunk=chunk, **OPTIONS)
    assert torch.equal(whole, parts)
    assert launched.launches > 2 * OPTIONS["rounds"]


def test_images_of_bytes_are_normalised(launched, monkeypatch):
    generator = torch.Generator().manual_seed(3)
    x = [torch.randint(0, 256, (n, 3, 2, 2), dtype=torch.uint8, generator=generator) for n in SIZES]
    y = [torch.randint(0, 4, (n,), generator=generator) for n in SIZES]
    normalize = fedfast.data.Normalize(mean=(0.1, 0.4, 0.5), std=(0.2, 0.3, 0.4))
    data = fedfast.FederatedData.from_arrays(x, y, normalize=normalize)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4))
    start = fedfast.Simulation(model, data, **OPTIONS)
    found = final(model, data, **OPTIONS)
    assert launched.launches == OPTIONS["rounds"]
    monkeypatch.setattr(resident, "compiled", lambda: None)
    expected = final(model, data, **OPTIONS)
    assert (found - expected).norm() < 1e-5 * expected.norm()
    assert (found - flat(start.state_dict())).norm() > 0.1


def tied():
    model = mlp(4)
    model[1].weight = nn.Parameter(torch.randn(4, 8))
    model[3].bias = model[1].bias
    return model


OTHERS = {
    "tanh": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 4)),
    "no bias": lambda: nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 4, bias=False)),
    "one layer": lambda: nn.Linear(8, 4),
    "relu behind": lambda: nn.Sequential(mlp(), nn.ReLU()),
    "tied": tied,
    "four layers": lambda: nn.Sequential(
        nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), mlp()
    ),
    "too large": lambda: mlp(250_000),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_take_their_steps_as_ever(name, launched):
    options = OPTIONS | dict(rounds=1, local_epochs=1)
    final(OTHERS[name](), federation(SIZES), **options)
    assert launched.launches == 0


@pytest.mark.parametrize(
    "algorithm, more",
    [
        (A.FedProx(), dict(clip_norm=0.1)),
        (A.FedAvg(), dict(dtype=torch.float64)),
        (A.FedAvg(), dict(backend="reference")),
    ],
)
def test_other_steps_are_taken_as_ever(algorithm, more, launched):
    final(mlp(), federation(SIZES), algorithm, **OPTIONS | dict(rounds=1), **more)
    assert launched.launches == 0


def test_frozen_weights_are_left_to_other_kernels(launched):
    model = mlp()
    model[1].requires_grad_(False)
    final(model, federation(SIZES), **OPTIONS | dict(rounds=1))
    assert launched.launches == 0


def test_the_doctor_tells(launched, monkeypatch, capsys):
    config = str(Path(__file__).parent.parent / "examples" / "quickstart.yaml")
    assert main(["doctor", config]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "resident  here" in said
    for label in ("fedavg", "fedsam"):
        assert f"{label}: a client's local steps are one launch" in said
    monkeypatch.setattr(resident, "compiled", lambda: None)
    assert main(["doctor", config]) == 0
    said = capsys.readouterr().out
    assert "one launch" not in said and "resident  missing, built where nvcc is" in said


def test_a_driver_that_is_too_old_is_no_error(launched, caplog):
    def clusters(given):
        raise RuntimeError("CUDA driver version is insufficient")

    launched.clusters = clusters
    resident.refused.cache_clear()
    final(mlp(), federation(SIZES), **OPTIONS)
    assert launched.launches == 0
    said = [record.getMessage() for record in caplog.records]
    assert said.count("no resident MLP: CUDA driver version is insufficient") == 1


def test_a_model_that_diverges_is_found(launched):
    sim = fedfast.Simulation(mlp(), federation(SIZES), **OPTIONS | dict(lr=1e30))
    sim.run(progress=False)
    assert sim.stopped and launched.launches == 1
