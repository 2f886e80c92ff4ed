"""Recorded steps: whoever replays one as it was recorded, with its inputs changed, runs the run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from federation import arrays, final, flat, next_word, sentences
from fedfast.kernels.triton import common
from test_programs import ALGORITHMS
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fedfast
from fedfast import client_loop, fusion_rules, models
from fedfast.algorithms import Algorithm, FedAvg, FedGloSS, FedSAM, Ramp, by_name
from fedfast.algorithms.base import ALGORITHMS as ALGORITHM_NAMES
from fedfast.algorithms.hooks import Clients
from fedfast.data import Augment, FederatedData
from fedfast.programs import executor
from fedfast.programs.cuda_graph import Replay, Step


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


LAUNCH = common.launch
READS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal)


class ExecutionContext(TorchDispatchMode):
    """A recorder of launches and of torch's operations, which repeats them on the same memory.

    Like a capture it refuses whatever reads a number back from the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Step] = []
        self.recording = self.launching = False
        self.replays = 0

    def record(self, step: Step) -> Step:
        """Unlike a capture it runs the step while it records: the first replay is that run."""
        self.done, self.recording = [], True
        with self:
            step()
        self.recording, done = False, self.done
        left = [True]

        def replay() -> None:
            if left:
                left.clear()
                return
            self.replays += 1
            for again in done:
                again()

        return replay

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.launching:
            assert func.overloadpacket not in READS, f"{func} waits for the device"
            self.done.append(partial(_again, func, args, kwargs or {}, out))
        return out

    def launch(self, kernel: Any, programs: int, tensor: Tensor, *args: Any, **meta: Any) -> None:
        """In the place of `_triton.launch`."""
        run = partial(LAUNCH, kernel, programs, tensor, *args, **meta)
        if self.recording:
            self.done.append(run)
        self.launching = True
        run()
        self.launching = False


def _again(func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """The operation once more, into the memory its result had; views have it already."""
    result = func(*args, **kwargs)
    if isinstance(out, Tensor) and result.data_ptr() != out.data_ptr():
        out.copy_(result)


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
    algorithm: Algorithm,
    data: FederatedData,
    dtype: torch.dtype = torch.float32,
    net: Callable[[], nn.Module] = model,
    **kwargs: Any,
) -> tuple[Tensor, list[float]]:
    """The model and the losses after four rounds of partial participation and falling rates."""
    settings: dict[str, Any] = dict(rounds=4, participation=0.8, local_epochs=2, batch_size=4)
    settings |= dict(lr_decay=0.7, seed=5, dtype=dtype) | kwargs
    sim = fedfast.Simulation(net(), data, algorithm, **settings)
    assert sim.generic_because == ""
    sim.run(progress=False)
    return flat(sim.state_dict()), [row.train_loss for row in sim.history]


def replays_alike(monkeypatch: pytest.MonkeyPatch, *args: Any, **options: Any) -> None:
    """Replayed steps are the eager run to the bit."""
    expected, losses = trained(*args, **options)
    frozen = Frozen()
    monkeypatch.setattr(client_loop, "recorder_for", lambda *_: frozen)
    found, replayed = trained(*args, **options)
    assert torch.equal(found, expected)
    assert replayed == losses
    assert frozen.replays > frozen.recordings > 0


# The module executor's steps are not recorded: see NOT_RECORDED.
NAMES = sorted(set(ALGORITHM_NAMES) - {"fedcr", "fedsgd"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=("float32", "float64"))
def test_replayed_steps_are_the_eager_runs_to_the_bit(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every algorithm: rates that fall, clients of unlike length, chunks of two."""
    made = by_name(name)
    replays_alike(monkeypatch, made, images(False), dtype, weight_decay=0.01, chunk=2)


def test_a_replayed_step_on_all_samples_is_the_eager_run_to_the_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FedSGD's, of which a round has one."""
    options: dict[str, Any] = dict(batch_size=None, local_epochs=1, chunk=2, rounds=6)
    replays_alike(monkeypatch, by_name("fedsgd", rule="sum"), images(False), lr=0.01, **options)


@pytest.mark.parametrize(
    "algorithm",
    [
        FedSAM(rho=Ramp(0.05, 0.5, 6)),
        by_name("fedsmoo", rho=Ramp(0.05, 0.5, 6)),
        by_name("fedfsa", lr_decay=0.8),
        FedGloSS(variant="official", T_s=3, local=fedfast.SAM(rho=0.1)),
        FedAvg(local=fedfast.SAM(rho=0.1, momentum=0.5)),
        by_name("fedsol", rho=Ramp(0.05, 0.5, 6), strength="adaptive", perturbed="all"),
    ],
    ids=["ramp", "ramp of duals", "rates by epoch", "epochs", "momentum", "divergence"],
)
def test_numbers_of_the_round_and_the_step_are_read_anew(
    algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dict(lr_decay=1.0) if algorithm.client_decay != 1.0 else {}
    replays_alike(monkeypatch, algorithm, images(False), chunk=3, **options)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.name)
@pytest.mark.parametrize(
    "options",
    [dict(weight_decay=0.01, clip_norm=0.5, chunk=2), dict(augment=Augment(pad=1), chunk=3)],
    ids=("clip", "augment"),
)
def test_replayed_steps_are_clipped_and_augmented_alike(
    algorithm: Algorithm, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    replays_alike(monkeypatch, algorithm, images("augment" in options), **options)


@pytest.mark.parametrize("algorithm", ALGORITHMS[:2], ids=lambda a: a.name)
def test_replayed_steps_draw_masks_of_their_own(
    algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    replays_alike(monkeypatch, algorithm, sentences([9, 4, 13, 1, 6]), net=next_word, chunk=3)


def test_a_shape_runs_once_before_it_is_recorded_and_new_shapes_drop_none() -> None:
    frozen, ran = Frozen(), []
    replay = Replay(frozen)

    def run(shape: int, label: str) -> None:
        replay.run(shape, lambda: ran.append(label))

    for label in "abc":
        run(0, label)
    assert (ran, frozen.recordings) == (["a", "b", "b"], 1)
    run(1, "d")
    run(0, "e")
    assert (ran, frozen.recordings) == (["a", "b", "b", "d", "b"], 1)
    replay.forget()
    run(0, "f")
    assert ran[-1] == "f"


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 4))


def small_images() -> FederatedData:
    return FederatedData.from_arrays(*arrays([3, 2], shape=(1, 3, 3)))


@pytest.mark.parametrize(
    ("net", "data", "algorithm"),
    [
        (small_net, small_images, FedAvg(local=fedfast.SAM(rho=0.1, momentum=0.5))),
        (next_word, lambda: sentences([2, 1], length=2), FedAvg()),
    ],
    ids=("images", "words"),
)
def test_a_step_is_launches_and_nothing_else(
    net: Callable[[], nn.Module],
    data: Callable[[], FederatedData],
    algorithm: Algorithm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the Triton backend its repeated launches are the run, and none waits for the device."""
    pytest.importorskip("triton", reason="Triton is not installed on this platform")

    def run() -> Tensor:
        settings: dict[str, Any] = dict(rounds=3, participation=1.0, batch_size=2, lr_decay=0.7)
        return final(net(), data(), algorithm, backend="triton", **settings)

    expected, context = run(), ExecutionContext()
    monkeypatch.setattr(client_loop, "recorder_for", lambda *_: context)
    for module in [m for name, m in sys.modules.items() if name.startswith("fedfast.kernels.")]:
        if hasattr(module, "launch"):
            monkeypatch.setattr(module, "launch", context.launch)
    assert torch.equal(run(), expected)
    assert context.replays > 0


class Halved(FedAvg):
    """Code of the user's within a step: what it reads is not known."""

    def after_step(self, at: Clients) -> None:
        """Smaller models."""
        at.w.mul_(0.5)


@pytest.mark.parametrize("name", sorted(ALGORITHM_NAMES))
def test_steps_of_every_algorithm_are_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen, net = Frozen(), stochastic() if name == "fedcr" else model()
    can = executor.capabilities_of
    monkeypatch.setattr(executor, "capabilities_of", lambda *at: replace(can(*at), graphs=True))
    monkeypatch.setattr(fusion_rules, "CudaRecorder", lambda: frozen)
    steps: dict[str, Any] = dict(local_epochs=2, batch_size=4)
    steps = dict(batch_size=None) if name == "fedsgd" else steps
    sim = fedfast.Simulation(net, images(False), name, rounds=3, seed=5, **steps)
    sim.run(progress=False)
    assert sim.eager_because == ""
    assert sim.generic_because == ""
    assert frozen.replays >= frozen.recordings > 0


def stochastic() -> nn.Module:
    options: dict[str, Any] = dict(input_shape=(1, 6, 6), hidden=[7], dimZ=3, seed=4)
    return models.build("stochastic", classes=4, **options)


def test_code_of_the_users_in_a_step_is_not_recorded_and_the_reason_named() -> None:
    assert "after_step of Halved" in fusion_rules.eager_because(Halved())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures CUDA graphs")
@pytest.mark.parametrize("net", [model, next_word])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.name)
def test_captured_graphs_are_the_eager_runs_to_the_bit(
    algorithm: Algorithm, net: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images(False) if net is model else sentences([9, 4, 13, 1, 6])
    options: dict[str, Any] = dict(net=net, weight_decay=0.01, chunk=3, device="cuda")
    found = trained(algorithm, data, **options)
    monkeypatch.setattr(client_loop, "recorder_for", lambda *_: None)
    expected = trained(algorithm, data, **options)
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1]
