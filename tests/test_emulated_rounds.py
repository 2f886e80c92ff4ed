"""Rounds on an emulated CUDA device: what the host asks of it, and that replays are the run.

A step costs the host one launch (its graph), no wait, no copy, no allocation; a round one wait.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from federation import arrays, federation, flat, mlp, next_word, sentences
from fedfast.kernels import _args
from fedfast.kernels.triton import common
from torch import Tensor, nn

import fedfast
from fedfast import ahead, client_loop, fusion_rules, memory, models, round_batches
from fedfast.algorithms import (
    Algorithm,
    Exponential,
    FedAvg,
    FedAvgFT,
    FedGloSS,
    FedSAM,
    FineTune,
    Ramp,
    by_name,
)
from fedfast.algorithms.base import ALGORITHMS
from fedfast.data import FederatedData
from fedfast.evaluation import assess, total
from fedfast.held_tensors import HeldTensors
from fedfast.metrics.accuracy import MULTICLASS
from fedfast.programs import evaluator
from fedfast.recorded_steps import RecordedChunk, RecordedSteps

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from emulated_cuda import Device  # noqa: E402
from emulated_graphs import Capture, Graphs  # noqa: E402
from test_cuda_graph import model  # noqa: E402

pytestmark = pytest.mark.skipif(
    not common.INTERPRETED, reason="kernels run in Triton's interpreter, on a device of its own"
)
ONE_STEP = {"fedsgd"}
RECORDED = sorted(set(ALGORITHMS) - ONE_STEP)
SIX = ["cosine", "conflicts", "delta_eps", "norm", "drift", "momentum"]


class Counts(NamedTuple):
    """Events of a round whose steps are all recorded.

    graphs  replays, which are none of the events; kernels: launches of the longest graph
    """

    events: Counter[str]
    graphs: int
    kernels: int


def images(each: int) -> FederatedData:
    """Four clients with so many images of 6 x 6 bytes."""
    xs, ys = arrays([each] * 4, shape=(1, 6, 6))
    return FederatedData.from_arrays([(40 * x + 128).clamp(0, 255).byte() for x in xs], ys)


def residual() -> nn.Module:
    """A sum of two branches under GroupNorm."""
    torch.manual_seed(0)
    return Block()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(144, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        return self.head(torch.relu(self.norm(self.b(x)) + x).flatten(1))


def stochastic() -> nn.Module:
    """What FedCR trains."""
    return models.build("stochastic", input_shape=(8,), classes=4, seed=4, hidden=[7], dimZ=3)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "mlp": (mlp, lambda: federation([8, 8, 8, 8])),
    "stochastic": (stochastic, lambda: federation([8, 8, 8, 8])),
    "wide": (mlp, lambda: federation([24] * 4)),
    "cnn": (model, lambda: images(8)),
    "lstm": (next_word, lambda: sentences([8, 8, 8, 8])),
    "residual": (residual, lambda: images(8)),
}
# Launches in a step's graph, ours and torch's: 2 around the passes, the batch and the losses.
LAUNCHES = {
    ("mlp", "fedavg"): 10,
    ("mlp", "fedsam"): 22,
    ("cnn", "fedavg"): 14,
    ("cnn", "fedsam"): 33,
    ("lstm", "fedavg"): 29,
    ("lstm", "fedsam"): 62,
    ("residual", "fedavg"): 22,
    ("residual", "fedsam"): 50,
}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """In whose graphs steps are recorded; kernels of ours compute nothing."""
    with emulated(monkeypatch, computes=False) as found:
        yield found


def emulated(monkeypatch: pytest.MonkeyPatch, computes: bool) -> Any:
    made = Device(computes)
    for module in (fusion_rules, evaluator):
        monkeypatch.setattr(module, "CudaRecorder", lambda: Graphs(made))
    return made.on()


def simulation(net: nn.Module, data: Any, algorithm: Any, **options: Any) -> fedfast.Simulation:
    """Three clients of each round's five or four."""
    settings: dict[str, Any] = dict(
        rounds=4, participation=0.75, batch_size=4, lr=0.1, lr_decay=0.9, weight_decay=0.01
    )
    settings |= dict(seed=1, device="cuda:0", verify=False) | options
    sim = fedfast.Simulation(net, data, algorithm, **settings)
    assert sim.generic_because == sim._engine.algorithm.local.own_loss
    return sim


def counts(
    device: Device, name: str | Algorithm, kind: str = "mlp", epochs: int = 1, **options: Any
) -> Counts:
    """Of the fourth round: the shapes of all its steps have been recorded."""
    net, data = MODELS["stochastic" if name == "fedcr" else kind]
    for row in simulation(net(), data(), name, local_epochs=epochs, rounds=5, **options):
        assert row.status == "ok"
        if row.round == 4:
            break
        device.events.clear()
    graphs, found = device.events.pop(("launch", "graph"), 0), Counter[str]()
    for (what, _), times in device.events.items():
        found[what] += times
    return Counts(found, graphs, max(device.graphs, default=0))


@pytest.mark.parametrize("name", RECORDED)
def test_a_step_is_one_launch_and_a_round_waits_once(name: str, device: Device) -> None:
    # In the fourth round all of FedALA's clients have begun, where all take part in every one.
    everybody = dict(participation=1.0) if name == "fedala" else {}
    few, many = (counts(device, name, epochs=epochs, **everybody) for epochs in (1, 3))
    exchanges = 2 if name == "naive-fedgloss" else 1
    steps = 8 if name == "centralized" else 2
    assert (few.graphs, many.graphs) == (steps * exchanges, 3 * steps * exchanges)
    assert many.events == few.events
    assert many.events["wait"] == 1


def test_a_single_step_on_all_samples_is_a_graph(device: Device) -> None:
    """FedSGD's: one replay and one wait, whatever the clients hold."""
    few, many = (counts(device, "fedsgd", kind, batch_size=None) for kind in ("mlp", "wide"))
    assert few.graphs == many.graphs == 1
    assert many.events == few.events
    assert few.events["wait"] == 1


@pytest.mark.parametrize("name", ["fedavg", "fedgloss", "fedwmsam", "fedavgm"])
def test_metrics_are_read_with_the_round(name: str, device: Device) -> None:
    """All six, and a test set: one wait for the round, one for the test."""
    test = federation([21]).samples
    assert counts(device, name, metrics=SIX, test=test).events["wait"] == 2


def test_metrics_on_the_device_are_those_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for where in ("cpu", "cuda:0"):
        with emulated(monkeypatch, computes=True):
            sim = simulation(mlp(), federation([8] * 4), "fedavgm", metrics=SIX, device=where)
            found.append([list(row.measured.values()) for row in sim])
    assert len(found[0][-1]) == 12
    for expected, columns in zip(*found, strict=True):
        assert columns == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True)


def test_fine_tuning_behind_the_last_round_waits_for_nothing(device: Device) -> None:
    net, data = MODELS["mlp"]
    sim = simulation(net(), data(), "fedavg-ft", rounds=2)
    waits = []
    for _ in sim:
        waits.append(device.count("wait"))
        device.events.clear()
    assert waits[-1] == 1


def test_a_step_of_fine_tuning_is_one_launch(device: Device) -> None:
    """Four clients in chunks of three and one, two steps an epoch; a shape's first one is eager."""
    found = []
    for epochs in (2, 5):
        for _ in simulation(mlp(), federation([8] * 4), FedAvgFT(epochs=epochs), rounds=2, chunk=3):
            events, _ = Counter(device.events), device.events.clear()
        found.append((events.pop(("launch", "graph")), events))
    (few, some), (many, others) = found
    assert others == some  # no copy, wait or allocation
    assert many - few == 2 * 2 * 3
    assert (
        few == 2 * 2 * 2 - 2 + 2
    )  # the round's own: the second step of both of its chunks' shapes


@pytest.mark.parametrize("layers", ["last", "all"])
def test_recorded_fine_tuning_is_the_eager_one_to_the_bit(
    layers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running statistics, dropout, a clip, clients of unlike length in chunks; whoever goes on."""
    found = []
    for recorded in (True, False):
        with emulated(monkeypatch, computes=True):
            if not recorded:
                monkeypatch.setattr(client_loop, "tuning_recorder", lambda _: None)
            algorithm, options = FedAvgFT(epochs=3, layers=layers), dict(rounds=2, chunk=2)
            sim = simulation(noisy(), federation([7, 4, 6, 3]), algorithm, clip_norm=0.5, **options)
            sim.run(progress=False)
            models = [sim.client_state_dict(i) for i in range(4)]
            found.append([flat({n: t.cpu() for n, t in m.items()}) for m in models])
            common = flat({n: t.cpu() for n, t in sim.state_dict().items()})
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other) and not torch.equal(one, common)


def noisy() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(8, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 4)
    return nn.Sequential(*layers)


def table_bytes(sim: fedfast.Simulation) -> int:
    """What the plan counts of a client's tables, which `test_step_tables.py` holds to what there
    is."""
    design = sim._design
    return memory.table_bytes(design.layout, design.algorithm, design.longest, design.width)


def test_noise_that_is_drawn_ahead_is_planned_for(device: Device) -> None:
    """FedCR's, of all steps of a chunk: its table on the device, and what the plan counts of it."""
    each, tables, put = [], [], HeldTensors.put

    def noted(self: HeldTensors, name: str, t: Tensor, least: int = 0) -> Tensor:
        if name == "noise":
            tables.append(t.nbytes)
        return put(self, name, t, least)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldTensors, "put", noted)
        for epochs in (1, 3):
            settings = dict(local_epochs=epochs, rounds=1)
            sim = simulation(stochastic(), federation([8] * 4), "fedcr", **settings)
            sim.run(progress=False)
            each.append(sim.memory.each - table_bytes(sim))
    clients, step = 3, 4 * 15 * 3 * 4  # batch, samples, dimensions, bytes
    assert tables == [clients * 2 * step, clients * 6 * step]
    assert each[1] - each[0] == 4 * step


def test_evaluation_is_one_graph_a_pass_and_one_wait(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "width_of", lambda *_: 1)  # eight samples a pass
    test = federation([21]).samples
    plain, tested = (counts(device, "fedavg", test=samples) for samples in (None, test))
    assert tested.graphs - plain.graphs == 3
    assert tested.events["wait"] - plain.events["wait"] == 1


def test_evaluation_on_the_device_is_that_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """By replayed passes too; labels that count for nothing, in a part of their own, as well."""
    test, found = federation([21]).samples, []
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 0.0]), ignore_index=1)
    for where in ("cpu", "cuda:0"):
        with emulated(monkeypatch, computes=True):
            sim = simulation(mlp(), federation([8] * 4), "fedavg", test=test, device=where)
            rows = [row for row in sim]
            found.append([(row.accuracy, row.loss) for row in rows])
            parts = [assess(loss, MULTICLASS, *each, 8) for each in outputs_of(where)]
            found[-1].append(total(loss, parts, test.y))
    for (right, low), (expected, high) in zip(*found, strict=True):
        assert right == expected
        assert low == pytest.approx(high, rel=1e-5)


def outputs_of(where: str) -> list[tuple[Tensor, Tensor]]:
    """Logits and labels, one batch of which has labels of no weight alone."""
    generator = torch.Generator().manual_seed(3)
    z, y = torch.randn(21, 4, generator=generator), torch.arange(21) % 4
    y[:8] = 1
    return [(z[part].to(where), y[part].to(where)) for part in (slice(8), slice(8, 21))]


def test_the_next_batches_are_drawn_while_the_device_trains(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunk after chunk, round after round, by the same thread as on the CPU."""
    taken, take = [], ahead.Ahead.take

    def watched(self: ahead.Ahead, *args: Any) -> Any:
        taken.append(take(self, *args))
        return taken[-1]

    monkeypatch.setattr(round_batches, "WORTH", 1)
    monkeypatch.setattr(ahead.Ahead, "take", watched)
    simulation(mlp(), federation([8] * 4), "fedavg", chunk=2).run(progress=False)
    assert [found is None for found in taken] == [True] + [False] * 7  # two chunks a round


@pytest.mark.parametrize(("kind", "name"), LAUNCHES)
def test_launches_of_a_step(kind: str, name: str, device: Device) -> None:
    """Of every kind of model: none waits, nothing is allocated but in the graph's own pool."""
    found = counts(device, name, kind)
    assert found.graphs == 2
    assert found.events["wait"] == 1
    assert found.kernels == LAUNCHES[kind, name]


def pooled() -> nn.Module:
    """Convolutions whose results, 2 x 6 x 6 and 3 x 3 x 3, are pooled: of 9 places 4."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 3, 3, padding=1)
    halved = nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(first, *halved, second, *halved, nn.Flatten(), nn.Linear(3, 4))


def test_gradients_put_back_to_maxima_are_planned_for(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step needs memory for the larger of both layers' results; so does the plan, on CUDA."""
    allocated, owns = [], Capture.owns

    def noted(self: Capture, t: Tensor) -> None:
        allocated.append((tuple(t.shape), t.nbytes))
        owns(self, t)

    monkeypatch.setattr(Capture, "owns", noted)
    sim = simulation(pooled(), images(8), "fedavg")
    sim.run(progress=False)
    put_back = {entry for entry in allocated if len(entry[0]) == 5}
    largest = 3 * 4 * (2 * 6 * 6) * 4  # clients, batch, results, bytes
    assert put_back == {((3, 4, 2, 6, 6), largest), ((3, 4, 3, 3, 3), 4 * 3 * 4 * 3 * 3 * 3)}
    plain = simulation(pooled(), images(8), "fedavg", device="cpu")
    assert 3 * (sim.memory.each - table_bytes(sim) - plain.memory.each) == largest


def test_a_planted_wait_is_found(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a step, which is captured, and between two."""
    run = RecordedChunk.run

    def reads(self: RecordedChunk, *args: Any) -> None:
        run(self, *args)
        self.steps.losses[0].item()

    monkeypatch.setattr(RecordedChunk, "run", reads)
    few, many = (counts(device, "fedavg", epochs=epochs) for epochs in (1, 3))
    assert many.events["wait"] - few.events["wait"] == 4
    monkeypatch.undo()


@pytest.mark.parametrize("reads", ["item", "tolist", "nonzero", "cpu"])
def test_a_wait_within_a_captured_step_is_refused(
    reads: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = RecordedSteps.end

    def waits(self: RecordedSteps, *args: Any) -> None:
        after(self, *args)
        getattr(self.losses[:1], reads)()

    monkeypatch.setattr(RecordedSteps, "end", waits)
    with pytest.raises(RuntimeError, match="within a capture"):
        counts(device, "fedavg")


def test_a_planted_allocation_and_a_planted_copy_are_found(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RecordedChunk.run

    def makes(self: RecordedChunk, *args: Any) -> None:
        run(self, *args)
        torch.tensor([1.0], device=self.steps.losses.device)

    monkeypatch.setattr(RecordedChunk, "run", makes)
    few, many = (counts(device, "fedavg", epochs=epochs) for epochs in (1, 3))
    for kind in ("allocation", "copy", "wait"):
        assert many.events[kind] - few.events[kind] == 4


# What differs between steps and rounds, each in one of them: rates of each client's own, radii by
# round, masks, scalars and step numbers, duals where they lie, epochs, a clip's coefficients.
CHUNKS = dict(local_epochs=2, chunk=2, rounds=3)  # of clients of unlike length
CASES: dict[str, tuple[Algorithm, dict[str, Any]]] = {
    "rates by epoch": (by_name("fedfsa", lr_decay=0.9), dict(local_epochs=2, lr_decay=1.0)),
    "radii by round": (FedSAM(rho=Ramp(0.05, 0.5, 6)), dict(chunk=2)),
    "radii, kept gradient": (by_name("fedsagm", rho=Ramp(0.05, 0.5, 6)), {}),
    "step numbers": (by_name("fedwmsam"), dict(clip_norm=0.5)),
    "duals": (by_name("fedsmoo", rho=Ramp(0.05, 0.5, 6)), dict(chunk=2)),
    "step numbers in chunks": (
        by_name("fedwmsam", variant="official", rho=Ramp(0.05, 0.5, 6)),
        dict(clip_norm=0.5, lr=Exponential(0.1, 0.8), lr_decay=1.0, **CHUNKS),
    ),
    "rates by epoch, summed": (by_name("fedwmsam"), dict(lr_decay_per="client_epoch", **CHUNKS)),
    "rates in chunks": (
        by_name("fedfsa", lr_decay=0.9, variant="official", fine_tune=FineTune(epochs=1)),
        dict(lr_decay=1.0, **CHUNKS),
    ),
    "epochs": (FedGloSS(variant="official"), dict(local_epochs=2)),
    "epochs in chunks": (
        FedGloSS(local=fedfast.SAM(rho=0.1), T_s=5, variant="official"),
        CHUNKS,
    ),
    "variates": (by_name("scaffold"), dict(clip_norm=0.5, chunk=3)),
    "momentum": (FedAvg(local=fedfast.SAM(rho=0.1, momentum=0.5)), {}),
    "moment": (by_name("fednsam-single"), {}),
    "noise": (by_name("fedcr", L=3, beta=0.2, alpha=0.3), dict(local_epochs=2, clip_norm=0.5)),
    "noise in chunks": (by_name("fedcr", L=2, beta=0.2), CHUNKS),
}


@pytest.mark.parametrize("case", CASES)
def test_replayed_graphs_are_the_eager_run_to_the_bit(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay repeats launches on addresses, none of the step's code."""
    algorithm, options = CASES[case]

    def run(recorded: bool) -> tuple[Tensor, list[float]]:
        with emulated(monkeypatch, computes=True) as device:
            if not recorded:
                monkeypatch.setattr(fusion_rules, "eager_because", lambda *_: "for the test")
                monkeypatch.setattr(client_loop, "tuning_recorder", lambda _: None)
            net = stochastic() if algorithm.name == "fedcr" else mlp()
            sim = simulation(net, federation([7, 4, 5, 3]), algorithm, **options)
            losses = [row.train_loss for row in sim]
            state = {name: t.cpu() for name, t in sim.state_dict().items()}
        assert bool(device.graphs) == recorded
        return flat(state), losses

    found = run(recorded=True)
    expected = run(recorded=False)
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1]


def test_nothing_that_a_graph_reads_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of constants forget theirs; a replay finds its memory all the same."""
    with emulated(monkeypatch, computes=True) as device:
        sim = simulation(mlp(), federation([8] * 4), "feddyn", clip_norm=0.5, rounds=6)
        for row in sim:
            assert row.status == "ok"
            _args._filled.cache_clear()
            gc.collect()
        assert device.events["launch", "graph"] > 4 * len(device.graphs)


def test_the_emulation_notices_memory_that_a_graph_lost() -> None:
    device = Device()
    with device.on():
        x, out = torch.ones(3, device="cuda:0"), torch.zeros(3, device="cuda:0")
        again = Graphs(device).record(partial(torch.mul, x, 2.0, out=out))
        again()
        x.fill_(4.0)
        again()
        assert out.tolist() == [8.0] * 3
        del x
        gc.collect()
        with pytest.raises(RuntimeError, match="freed"):
            again()
