"""Recorded steps: whoever replays one as it was recorded, with its inputs changed, runs the run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from federation import arrays, flat
from torch import Tensor, nn

import fedfast
from fedfast import local
from fedfast.algorithms import Algorithm, FedAvg, FedAvgM, FedSAM
from fedfast.data import Augment, FederatedData
from fedfast.programs.graph import Replay, Step


class Frozen:
    """A recorder like CUDA graphs: what it repeats is the step of the recording, whatever comes.

    A step that closes over a learning rate, a step number or rows repeats those of its recording.
    """

    def __init__(self) -> None:
        self.recordings = self.replays = 0

    def record(self, step: Step) -> Step:
        self.recordings += 1

        def replay() -> None:
            self.replays += 1
            step()

        return replay


def images(bytes_: bool) -> FederatedData:
    """Five clients with 1 to 13 images of 6 x 6, floats or bytes."""
    xs, ys = arrays([9, 4, 13, 1, 6], shape=(1, 6, 6))
    if bytes_:
        xs = [(40 * x + 128).clamp(0, 255).to(torch.uint8) for x in xs]
    return FederatedData.from_arrays(xs, ys)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)
    )


def trained(
    algorithm: Algorithm, data: FederatedData, dtype: torch.dtype = torch.float32, **kwargs: Any
) -> tuple[Tensor, list[float]]:
    """The model and the losses after four rounds of partial participation and falling rates."""
    settings: dict[str, Any] = dict(rounds=4, participation=0.8, local_epochs=2, batch_size=4)
    sim = fedfast.Simulation(
        model(), data, algorithm, lr_decay=0.7, seed=5, dtype=dtype, **settings, **kwargs
    )
    assert sim.generic_because == ""
    sim.run(progress=False)
    return flat(sim.state_dict()), [row.train_loss for row in sim.history]


ALGORITHMS = [
    FedAvg(),
    FedSAM(rho=0.1),
    FedAvgM(beta=0.5, local=fedfast.SGD(momentum=0.5)),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=("float32", "float64"))
@pytest.mark.parametrize(
    "options",
    [
        dict(weight_decay=0.01),
        dict(weight_decay=0.01, clip_norm=0.5, chunk=2),
        dict(augment=Augment(pad=1), chunk=3),
    ],
    ids=("decay", "clip", "augment"),
)
def test_replayed_steps_are_the_eager_runs_to_the_bit(
    algorithm: Algorithm,
    dtype: torch.dtype,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = images("augment" in options)
    expected, losses = trained(algorithm, data, dtype, **options)
    frozen = Frozen()
    monkeypatch.setattr(local, "recorder_for", lambda *_: frozen)
    found, replayed = trained(algorithm, data, dtype, **options)
    assert torch.equal(found, expected)
    assert replayed == losses
    assert frozen.replays > 2 * frozen.recordings > 0


def test_a_shape_runs_once_before_it_is_recorded_and_new_shapes_drop_recordings() -> None:
    frozen, ran = Frozen(), []
    replay = Replay(frozen, 3)

    def run(shape: int, label: str) -> None:
        replay.run(shape, lambda: ran.append(label))

    for label in "abc":
        run(0, label)
    assert (ran, frozen.recordings) == (["a", "b", "b"], 1)
    run(1, "d")
    run(0, "e")
    assert (ran, frozen.recordings) == (["a", "b", "b", "d", "e"], 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures CUDA graphs")
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.name)
def test_captured_graphs_are_the_eager_runs_to_the_bit(
    algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = dict(weight_decay=0.01, chunk=3, device="cuda")
    found = trained(algorithm, images(False), **options)
    monkeypatch.setattr(local, "recorder_for", lambda *_: None)
    expected = trained(algorithm, images(False), **options)
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1]
