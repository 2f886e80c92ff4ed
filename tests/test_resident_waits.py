"""Rounds whose local steps are one launch of the resident MLP wait for the device once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from federation import federation
from fedfast.kernels.triton import common
from torch import Tensor, nn

from fedfast.programs import resident

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from test_emulated_rounds import emulated, simulation  # noqa: E402

pytestmark = pytest.mark.skipif(
    not common.INTERPRETED, reason="kernels run in Triton's interpreter, on a device of its own"
)


class Counted:
    """A compiled module for CUDA that trains nobody; `launches` of it."""

    device = "cuda"

    def __init__(self) -> None:
        self.launches = 0

    def plan(self, given: Mapping[str, object]) -> dict[str, int]:
        return dict(blocks=1)

    def clusters(self, given: Mapping[str, object]) -> int:
        return 8

    def train(self, given: Mapping[str, object], stream: int) -> None:
        self.launches += 1


def relus() -> nn.Module:
    """A model that it trains."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 4))


def waits(monkeypatch: pytest.MonkeyPatch, name: str, **options: Any) -> tuple[int, int]:
    """(waits for the device, launches of the module) of the fourth round."""
    module = Counted()
    monkeypatch.setattr(resident, "compiled", lambda: module)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: resident.CAPABILITY)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "device", lambda *_: nullcontext())
    with emulated(monkeypatch, computes=False) as device:
        for row in simulation(relus(), federation([8] * 4), name, **options):
            if row.round == 4:
                return device.count("wait"), module.launches
            device.events.clear()
            module.launches = 0
    raise AssertionError("no fourth round")


@pytest.mark.parametrize("name", ["fedavg", "fedsam", "scaffold"])
def test_a_round_is_one_launch_a_chunk_and_one_wait(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, launches in ((dict(local_epochs=3), 1), (dict(chunk=1), 3)):
        assert waits(monkeypatch, name, **options) == (1, launches)


def test_a_planted_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    descend = resident.ResidentMLP.descend

    def reads(self: resident.ResidentMLP, *args: Any, **options: Any) -> Tensor:
        total = descend(self, *args, **options)
        assert total.sum().item() == 0.0
        return total

    monkeypatch.setattr(resident.ResidentMLP, "descend", reads)
    assert waits(monkeypatch, "fedavg", chunk=1) == (1 + 3, 3)
