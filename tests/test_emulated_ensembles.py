"""Waits of the host for an emulated CUDA device: steps of ensembles, evaluation by modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from federation import federation, mlp
from fedfast.kernels.triton import common
from torch import Tensor

import fedfast
from fedfast import module_evaluator
from fedfast.algorithms import FedCR
from fedfast.ensemble import Adam
from fedfast.ensemble.trainer import Trainer

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from test_emulated_rounds import emulated, simulation  # noqa: E402
from test_emulated_waits import stochastic  # noqa: E402

pytestmark = pytest.mark.skipif(
    not common.INTERPRETED, reason="kernels run in Triton's interpreter, on a device of its own"
)
OPTIMIZERS = {
    "sgd": fedfast.SGD(),
    "momentum": fedfast.SGD(momentum=0.9),
    "nesterov": fedfast.SGD(momentum=0.9, nesterov=True),
    "sam": fedfast.SAM(rho=0.1),
    "asam": fedfast.ASAM(rho=0.1),
    "adam": Adam(),
}


def waits_of_a_step(monkeypatch: pytest.MonkeyPatch, optimizer: Any) -> int:
    """Of the fourth, on samples that are on the device."""
    x, y = torch.randn(5, 8), torch.arange(5) % 4
    with emulated(monkeypatch, computes=False) as device:
        ensemble = fedfast.Ensemble(
            mlp, 3, optimizer=optimizer, weight_decay=0.01, device="cuda:0", verify=False
        )
        x, y = x.to("cuda:0"), y.to("cuda:0")
        for _ in range(4):
            device.events.clear()
            ensemble.step(x, y)
        assert ensemble.generic_because == ""
        assert device.count("launch") > 0
        return device.count("wait")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_an_ensemble_wait_for_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits_of_a_step(monkeypatch, OPTIMIZERS[name]) == 0


def test_a_planted_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.step

    def reads(self: Trainer, *args: Any) -> Tensor:
        losses = step(self, *args)
        assert losses[0].item() < 1e30
        return losses

    monkeypatch.setattr(Trainer, "step", reads)
    assert waits_of_a_step(monkeypatch, fedfast.SGD()) == 1


def test_evaluation_by_the_module_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many batches it takes."""
    test, found = federation([21]).samples, []
    for batch in (64, 7):
        monkeypatch.setattr(module_evaluator, "EVALUATION_BATCH", batch)
        with emulated(monkeypatch, computes=False) as device:
            sim = simulation(
                stochastic(), federation([8] * 4), FedCR(L=2), threads=1, rounds=2, test=test
            )
            for _ in sim:
                found.append(device.count("wait"))
                device.events.clear()
    assert found[1] == found[3] == 1 + 1
