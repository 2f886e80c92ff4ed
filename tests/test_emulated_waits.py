"""Waits of the host for an emulated CUDA device, of whole rounds; and that looking late, or only at
times, changes no result."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from federation import arrays, federation, mlp
from fedfast.kernels.triton import common
from paired_runs import simulation as paired
from test_client_state import STATEFUL, everything, with_a_bomb
from torch import Tensor, nn

import fedfast
from fedfast.algorithms import FedALA, FedAvg, FedCR, FedSOL, adaptive_mixing, fedcr
from fedfast.algorithms.base import ALGORITHMS
from fedfast.algorithms.fedcr import BottleneckSGD
from fedfast.algorithms.fedsol import ProximalSAM
from fedfast.algorithms.hooks import NamedRows
from fedfast.batches import BatchNumbers, Minibatch
from fedfast.data import FederatedData
from fedfast.engine import Engine
from fedfast.evaluation import assess, figures, totals
from fedfast.metrics.accuracy import MULTICLASS
from fedfast.pending import Pending, together
from fedfast.transfers import sent_to

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from emulated_cuda import Device  # noqa: E402
from interrupts import differences  # noqa: E402
from test_emulated_rounds import emulated, simulation, stochastic  # noqa: E402

pytestmark = pytest.mark.skipif(
    not common.INTERPRETED, reason="kernels run in Triton's interpreter, on a device of its own"
)


def waits(
    monkeypatch: pytest.MonkeyPatch, net: nn.Module, algorithm: Any, computes: bool, **options: Any
) -> list[int]:
    """Of each round. One thread: the device is emulated for the one that asks for it."""
    found = []
    options = dict(threads=1) | options
    with emulated(monkeypatch, computes) as device:
        for row in simulation(net, federation([8] * 4), algorithm, **options):
            assert row.status == "ok"
            found.append(device.count("wait"))
            device.events.clear()
    return found


@pytest.mark.parametrize("name", ["fedavg", "naive-fedgloss", "scaffold", "fedwmsam", "fedgh"])
def test_further_chunks_wait_no_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, single = (waits(monkeypatch, mlp(), name, False, chunk=chunk)[3] for chunk in (None, 1))
    assert single == whole == 1


by_module = pytest.mark.usefixtures("own_divergence")


@pytest.fixture
def own_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    """FedSOL and FedCR as if their losses were not known to layer programs."""
    for known in (ProximalSAM, BottleneckSGD):
        monkeypatch.setattr(known, "own_loss", "for the test")


BY_MODULE = {
    "fedsol": (mlp, FedSOL(), 1),
    "fedsol-adaptive": (mlp, FedSOL(strength="adaptive", perturbed="all", momentum=0.5), 1),
    "fedcr": (stochastic, FedCR(L=2), 1),
}


@pytest.mark.parametrize("case", BY_MODULE)
@by_module
def test_steps_of_the_module_executor_wait_for_nothing(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Autograd, client by client: counts, seeds and epochs are known on the host."""
    net, algorithm, most = BY_MODULE[case]
    few, many = (
        waits(monkeypatch, net(), algorithm, False, local_epochs=epochs)[3] for epochs in (1, 3)
    )
    assert few == many == most


# Why a round with a test set may wait more than twice.
MORE = {"fedala": "clients learn their weights in passes until all have settled, in a first call"}


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_test_set_is_one_wait_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every algorithm; evaluated in each round, with and without."""
    net = stochastic if name == "fedcr" else mlp
    options: dict[str, Any] = dict(batch_size=None) if name == "fedsgd" else {}
    plain = waits(monkeypatch, net(), name, False, **options)
    tested = waits(monkeypatch, net(), name, False, test=federation([21]).samples, **options)
    assert [more - few for more, few in zip(tested[1:], plain[1:], strict=True)] == [1] * 3
    assert (max(tested[1:]) > 2) == (name in MORE)


def with_tests(sizes: list[int]) -> FederatedData:
    """Four clients that have test parts, one of them an empty one."""
    test = list(zip(*arrays(sizes), strict=True))
    return FederatedData.from_arrays(*arrays([8] * 4), test=test)


@pytest.mark.parametrize("metrics", [False, True], ids=["accuracies", "losses"])
@pytest.mark.parametrize("keep", [False, True], ids=["global", "personal"])
def test_all_that_is_evaluated_is_one_wait(
    keep: bool, metrics: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test set, the clients' own test parts by the global model and by models of their own."""
    options: dict[str, Any] = dict(test=federation([21]).samples, client_metrics=metrics)
    options |= dict(rounds=3, batch_size=4, device="cuda:0", verify=False, threads=1)
    data, found = with_tests([5, 0, 3, 9]), []
    with emulated(monkeypatch, computes=False) as device:
        for row in fedfast.Simulation(mlp(), data, FedAvg(keep_models=keep), **options):
            assert row.status == "ok"
            found.append(device.count("wait"))
            device.events.clear()
    assert found[2] == 2


def test_losses_of_whole_test_sets_are_read_with_all_else() -> None:
    """Losses that are no mean of the parts': they are taken of all outputs, on the device."""
    generator, y = torch.Generator().manual_seed(3), torch.arange(21) % 4
    z, loss = torch.randn(21, 4, generator=generator), nn.CrossEntropyLoss(label_smoothing=0.1)

    def asked(outputs: Tensor, targets: Tensor) -> Pending[list[tuple[float, float]]]:
        cuts = [(outputs[a:b], targets[a:b]) for a, b in ((0, 8), (8, 21))]
        parts = [assess(loss, MULTICLASS, *cut, 21) for cut in cuts]
        return together([figures(loss, parts, targets), totals(loss, parts[:1], targets[:8])])

    expected = asked(z, y).read()
    with Device().on() as device:
        pending = asked(z.to("cuda:0"), y.to("cuda:0"))
        device.events.clear()
        found = pending.read()
        assert device.count("wait") == 1
    assert found == expected and found[0][1] == float(loss(z, y))


@by_module
def test_a_planted_read_of_the_module_executor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Minibatch, "numbers", lambda b: BatchNumbers.of(b.count, b.seeds))
    found = waits(monkeypatch, mlp(), FedSOL(), False, local_epochs=1)[3]
    assert found == 1 + 2 * 2  # steps, passes


@by_module
def test_random_layers_of_the_module_executor_wait_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = nn.Sequential(nn.Linear(8, 7), nn.Dropout(0.5), nn.Linear(7, 4))
    assert waits(monkeypatch, net, FedSOL(), False, local_epochs=2)[3] == 1


def test_gaussians_of_diverged_clients_are_left_out_without_a_wait() -> None:
    """As they are on the CPU, which drops them."""
    sums = torch.randn(4, 2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sums[1, 0, 2, 2], sums[3, 1, 0, 0] = torch.nan, torch.inf
    with Device().on() as device:
        there = sums.to("cuda:0")
        device.events.clear()
        found = fedcr._of_finite(there).sum(0)
        assert device.count("wait") == 0
        assert torch.equal(found.cpu(), sums[0] + sums[2])
    assert torch.equal(fedcr._of_finite(sums), sums[[0, 2]])


def test_fedala_waits_in_first_active_calls_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """All four clients take part in every round, two at a time: all begin in the second."""
    more = dict(chunk=2, participation=1.0, rounds=3, batch_size=8)
    _, second, third = waits(monkeypatch, mlp(), FedALA(s=100, threshold=10.0), True, **more)
    # Who is active, once more behind eleven passes; and what ends the round.
    assert (second, third) == (2 * 2 + 1, 1)


class Valleys:
    """Losses `c |w - target|^2 / 2` of clients 0 to 5, some of which never settle.

    calls  clients of each call
    """

    width = 3

    def __init__(self, device: str) -> None:
        self.calls: list[list[int]] = []
        self.target = torch.linspace(-1.0, 1.0, 8).to(device)
        self.c = torch.tensor([0.1, 0.3, 0.02, 1.0, 0.5, 0.7]).to(device)
        self.noise = torch.tensor([0.0, 0.0, 0.0, 0.0, 5.0, 0.0]).to(device)
        self.sound = torch.tensor([True, True, True, True, True, False]).to(device)

    def __call__(
        self, ids: Any, index: Any, count: Any, w: Tensor, out: Tensor, draw: int
    ) -> Tensor:
        self.calls.append(ids.tolist())
        who = sent_to(torch.from_numpy(ids), w.device)
        turn = draw // adaptive_mixing.PER_PASS
        gap, c = w - self.target, self.c[who]
        out.copy_(c[:, None] * gap)
        losses = 0.5 * c * (gap * gap).sum(1) + self.noise[who] * (turn % 2)
        return losses if turn <= 12 else losses.where(self.sound[who], torch.nan)


class Asked(SimpleNamespace):
    """Stands in for `Clients`: what `FedALA.starts` asks of them."""

    def __len__(self) -> int:
        return len(self.ids)


def valleys(device: str) -> Asked:
    """Six clients with 3 to 8 samples; client 3 is still where the server is."""
    generator = torch.Generator().manual_seed(5)
    start, mine = torch.randn(8, generator=generator), torch.randn(6, 8, generator=generator)
    mine[3, :4] = start[:4]
    values = {"A": torch.ones(6, 4).to(device), "begun": torch.zeros(6, dtype=torch.bool)}
    return Asked(
        ids=np.arange(6), seed=0, round=1, start=start.to(device), own={"W_l": mine.to(device)},
        layout=SimpleNamespace(segments=SimpleNamespace(spans=[(0, 4), (4, 8)]), trained=8),
        on_host=SimpleNamespace(sizes=torch.arange(3.0, 9.0, dtype=torch.float64)),
        g=torch.zeros(6, 8).to(device), values=NamedRows(values), probe=Valleys(device),
    )  # fmt: skip


class Learned(NamedTuple):
    """A first call of `FedALA.starts`, and one in which everybody has begun.

    tensors  models and weights after each of them
    calls    clients of each gradient of the first
    waits    in each of them
    """

    tensors: list[Tensor]
    calls: list[list[int]]
    waits: list[int]


def learned(at: Asked, device: Device | None) -> Learned:
    tensors, calls, counted = [], [], []
    for again in (False, True):
        at.values["begun"][3] |= again  # nothing has made that client active
        out, at.probe.calls = torch.empty_like(at.g), []
        before = device.count("wait") if device else 0
        assert FedALA(s=100, p=1, threshold=1e-3).starts(at, out)
        counted.append(device.count("wait") - before if device else 0)
        tensors += [out.cpu(), at.values["A"].clone().cpu()]
        calls.append(at.probe.calls)
    assert at.values["begun"].all()
    return Learned(tensors, calls[0], counted)


@pytest.mark.parametrize("apart", [1, 10])
def test_fedala_on_a_device_learns_what_the_cpu_learns(
    apart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: who has settled is masked until the host looks, and who is not active."""
    monkeypatch.setattr(adaptive_mixing, "APART", apart)
    expected = learned(valleys("cpu"), None)
    batches = [1, 2, 2, 2, 3, 3]
    passes = [sum(k in who for who in expected.calls) / n for k, n in enumerate(batches)]
    assert passes[3:] == [0, 100, 14]  # not active, never settled, not finite
    assert sorted(passes[:3]) == sorted(set(passes[:3])) and 11 <= min(passes[:3]) < 100
    with Device().on() as device:
        found = learned(valleys("cuda:0"), device)
    assert all(map(torch.equal, found.tensors, expected.tensors))
    assert found.waits == [1 + 90 // apart, 0]
    taken, needed = (sum(map(len, each.calls)) for each in (found, expected))
    assert taken == needed if apart == 1 else taken > needed


def run(
    monkeypatch: pytest.MonkeyPatch, algorithm: Any, late: bool, **options: Any
) -> tuple[Any, list[str], list[int]]:
    """(all that outlives the last round, rows, waits by round) of a run in which one diverges."""
    made = Engine.__init__

    def looks(self: Engine, *args: Any) -> None:
        made(self, *args)
        self.late &= late

    monkeypatch.setattr(Engine, "__init__", looks)
    rows, found = [], []
    with emulated(monkeypatch, computes=True) as device:
        sim = paired(with_a_bomb(), algorithm, device="cuda:0", backend="triton", **options)
        for row in sim:
            rows.append(repr((row.status, row.train_loss, row.update_norm, row.samples)))
            found.append(device.count("wait"))
            device.events.clear()
        kept = [
            {key: t.cpu() if isinstance(t, Tensor) else t for key, t in part.items()}
            for part in everything(sim)
        ]
    monkeypatch.undo()
    return kept, rows, found


@pytest.mark.parametrize("name", ["scaffold", "fedwmsam", "fedgh-over-feddyn"])
@pytest.mark.parametrize("divergence", ["continue", "stop"])
def test_a_round_that_is_looked_at_late_is_the_one_looked_at_chunk_by_chunk(
    name: str, divergence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained once more where a client has diverged, and from then on looked at right away."""
    options = dict(on_divergence=divergence, chunk=2)
    late = run(monkeypatch, STATEFUL[name], True, **options)
    early = run(monkeypatch, STATEFUL[name], False, **options)
    assert late[1] == early[1] and "diverged: client 1 non-finite" in late[1][1]
    for one, other in zip(late[0], early[0], strict=True):
        assert not differences(one, other)
    if divergence == "continue":
        assert late[2][2] == early[2][2]


def test_hooks_of_the_users_are_not_called_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor shown models that are not finite."""
    calls: Counter[int] = Counter()

    class Counting(FedSOL):
        def settle(self, server: Any, cohort: Any, numbers: Any) -> None:
            calls[cohort.round] += 1

    with emulated(monkeypatch, computes=True):
        sim = paired(
            with_a_bomb(), Counting(), device="cuda:0", backend="triton", on_divergence="continue"
        )
        assert [row.status[:8] for row in sim] == ["ok", "diverged", "ok"]
    assert calls == {0: 1, 1: 1, 2: 1}
