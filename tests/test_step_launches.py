"""Launches of a local step's graph, for every algorithm that is recorded, on the small MLP.

Ours and torch's own are counted apart: numbers that follow from a client and its step are computed
before the first step, and what a step computes it computes in kernels. Where torch does, here is
why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from emulated_cuda import Device  # noqa: E402
from federation import federation, mlp  # noqa: E402
from test_emulated_rounds import (  # noqa: E402
    RECORDED,
    counts,
    emulated,
    pytestmark,  # noqa: F401
    simulation,
    stochastic,
)

from fedfast.algorithms import (  # noqa: E402
    FedAvg,
    FedGloSS,
    FedSAM,
    FedWMSAM,
    Ramp,
    by_name,
    fedgloss,
    optimizers,
)

TORCH = {"fedsol": 1}  # a copy of the model, whose head alone is moved
LAUNCHES = {
    "centralized": 10,
    "fedadagrad": 10,
    "fedadam": 10,
    "fedala": 10,
    "fedasam": 20,
    "fedavg": 10,
    "fedavg-ft": 11,  # of fine-tuning: the step is a launch of its own
    "fedavgm": 10,
    "fedcm": 14,
    "fedcr": 20,
    "feddyn": 14,
    "fedfsa": 29,
    "fedgamma": 26,
    "fedgh": 10,
    "fedgloss": 14,
    "fedlesam": 11,
    "fedlesam-d": 15,
    "fedlesam-s": 15,
    "fednsam": 22,
    "fednsam-single": 11,
    "fedprox": 14,
    "fedsagm": 21,
    "fedsam": 22,
    "fedsmoo": 26,
    "fedsol": 21,
    "fedspeed": 26,
    "fedwmsam": 16,
    "fedyogi": 10,
    "mofedsam": 26,
    "naive-fedgloss": 14,
    "scaffold": 14,
    "fedfsa, rates by epoch": 26,
    "fedfsa, official": 26,
    "fedgloss, official": 13,
    "fedwmsam, official": 16,
    "fedwmsam, clipped": 16,
    "fedwmsam, rates by epoch": 13,
    "fedsam, radii by round": 25,
    "momentum": 23,
}
OTHERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "fedfsa, rates by epoch": (by_name("fedfsa", lr_decay=0.9), dict(lr_decay=1.0)),
    "fedfsa, official": (
        by_name("fedfsa", lr_decay=0.9, variant="official"),
        dict(lr_decay=1.0),
    ),
    "fedgloss, official": (FedGloSS(variant="official"), {}),
    "fedwmsam, official": (FedWMSAM(variant="official", rho=Ramp(0.05, 0.5, 6)), {}),
    "fedwmsam, clipped": (FedWMSAM(rho=Ramp(0.05, 0.5, 6)), dict(clip_norm=0.5)),
    "fedwmsam, rates by epoch": (FedWMSAM(), dict(lr_decay_per="client_epoch")),
    "fedsam, radii by round": (FedSAM(rho=Ramp(0.05, 0.5, 6)), dict(clip_norm=0.5)),
    "momentum": (FedAvg(local=optimizers.SAM(rho=0.1, momentum=0.5)), {}),
}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """In whose graphs steps are recorded; kernels of ours compute nothing."""
    with emulated(monkeypatch, computes=False) as found:
        yield found


def steps(device: Device, name: str) -> list[Counter[str]]:
    """Launches of every shape of a step, by name, in a run of two local epochs."""
    algorithm, options = OTHERS.get(name, (name, {}))
    net = stochastic() if name == "fedcr" else mlp()
    simulation(
        *(net, federation([8] * 4), algorithm), **(dict(local_epochs=2, rounds=3) | options)
    ).run(progress=False)
    return device.launched


def torchs(step: Counter[str]) -> int:
    """How many of a step's launches are torch's own."""
    return sum(times for name, times in step.items() if name.startswith("aten"))


@pytest.mark.parametrize("name", [*RECORDED, *OTHERS])
def test_launches_of_a_step_and_torchs_among_them(name: str, device: Device) -> None:
    """Of the longest; no shape of a step has more of torch's."""
    found = steps(device, name)
    assert max(step.total() for step in found) == LAUNCHES[name]
    assert max(map(torchs, found)) == TORCH.get(name, 0), found


@pytest.mark.parametrize(
    "name",
    [
        "fedfsa, rates by epoch",
        "fedgloss, official",
        "fedwmsam, clipped",
        "fedwmsam, rates by epoch",
    ],
)
def test_more_steps_ask_nothing_more_of_the_host(name: str, device: Device) -> None:
    """Numbers of three times the steps are as many launches, copies and allocations."""
    algorithm, options = OTHERS[name]
    few, many = (counts(device, algorithm, epochs=epochs, **options) for epochs in (1, 3))
    assert many.graphs == 3 * few.graphs
    assert many.events == few.events


def test_an_operation_of_torchs_planted_in_a_hook_is_found(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ASAM's, whose ascent is one call of a kernel."""
    perturb = optimizers.perturb

    def planted(w: Tensor, *args: Any, out: Tensor, **options: Any) -> Any:
        perturb(w, *args, out=out, **options)
        return out.add_(0.0)

    monkeypatch.setattr(optimizers, "perturb", planted)
    found = steps(device, "fedasam")
    assert max(map(torchs, found)) == 1
    assert max(step.total() for step in found) == LAUNCHES["fedasam"] + 1


def test_what_a_hook_computes_of_its_steps_costs_none_of_them_a_launch(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = fedgloss._ends_of_epochs

    def longer(at: Any) -> tuple[Tensor, ...]:
        return tuple((2.0 * number).square() - number for number in known(at))

    monkeypatch.setattr(fedgloss, "_ends_of_epochs", longer)
    found = steps(device, "fedgloss, official")
    assert max(map(torchs, found)) == 0
    assert max(step.total() for step in found) == LAUNCHES["fedgloss, official"]
