"""The benchmark's baselines train what fedfast trains: the same schedule, the same weights."""

import sys
from pathlib import Path

import pytest
import torch
from federation import federation, flat, mlp
from torch import nn

import fedfast
from fedfast.algorithms import FedAvg, FedSAM
from fedfast.models import build

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import baselines  # noqa: E402
import bench_round  # noqa: E402
import simulators  # noqa: E402
import vmapped  # noqa: E402
import workloads  # noqa: E402

ROUNDS, LR = 3, 0.1
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
MODELS = {
    "mlp": ((8,), mlp),
    "cnn": (
        (1, 16, 16),
        lambda: build("lenet", input_shape=(1, 16, 16), classes=4, channels=(2, 3), hidden=(8,)),
    ),
}


def baseline(name, module, data, rho):
    """A baseline by name, ready to train."""
    if name == "typical":
        return baselines.TypicalLoop(module, data.x, data.y, LR, rho)
    if name.startswith("vmap"):
        chunk = int(name[4:]) if name[4:] else None
        return vmapped.VmappedLoop(module, data.x, data.y, LR, chunk, rho=rho)
    workers, threads = (int(part) for part in name.removeprefix("tuned").split("x"))
    return baselines.TunedLoop(module, data.x, data.y, LR, rho, workers, threads)


def distance(name, model, sizes, rho, dtype):
    """Between the baseline's final weights and fedfast's, over how far training moved them."""
    shape, make = MODELS[model]
    data = federation(sizes, shape=shape).to("cpu", dtype)
    module: nn.Module = make().to(dtype)
    sim = fedfast.Simulation(
        module,
        data,
        FedAvg() if rho is None else FedSAM(rho=rho),
        rounds=ROUNDS,
        participation=0.75,
        batch_size=4,
        lr=LR,
        dtype=dtype,
    )
    other = baseline(name, module, data, rho)
    for t, _ in enumerate(sim):
        other.round(baselines.client_work(data, sim.schedule.round(t)))
    ours, theirs = flat(sim.state_dict()), flat(other.state_dict())
    return (ours - theirs).norm() / (ours - flat(module.state_dict())).norm()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rho", [None, 0.1], ids=["fedavg", "fedsam"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["typical", "tuned1x1", "tuned1x2", "tuned2x1"])
def test_loops_end_at_fedfasts_weights(name, model, rho, dtype):
    assert distance(name, model, [9, 4, 13, 6], rho, dtype) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rho", [None, 0.1], ids=["fedavg", "fedsam"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["vmap", "vmap1"])
def test_vmap_ends_at_fedfasts_weights(name, model, rho, dtype):
    assert distance(name, model, [10, 10, 10, 10], rho, dtype) < TOLERANCE[dtype]


def test_sams_ascent_is_the_same_in_both_forms(monkeypatch):
    """On CUDA, where no number may come to the host, and on a CPU."""
    loop = baselines.TunedLoop(mlp(), torch.zeros(1, 8), torch.zeros(1).long(), LR, 0.1)
    g = [p.detach().clone() for p in mlp().parameters()]
    near = [scale * t for found, scale in [loop._ascent(g, 0.1)] for t in found]
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "is_cuda", True)
        patch.setattr(torch.Tensor, "__float__", None)
        far, scale = loop._ascent([t.clone() for t in g], 0.1)
    assert scale == 1.0
    torch.testing.assert_close(list(far), near)


def test_vmap_says_that_it_needs_equal_clients():
    with pytest.raises(ValueError, match="equal batch sizes"):
        distance("vmap", "mlp", [10, 4, 10, 10], None, torch.float32)


# Forward multiply-adds by hand: output positions x weights.
COUNTS = [
    ("mlp", {}, (1, 28, 28), [784 * 200, 200 * 10]),
    ("cnn", {}, (1, 28, 28), [784 * 800, 196 * 51_200, 3136 * 512, 512 * 10]),
    ("lenet", {}, (3, 32, 32), [784 * 4800, 100 * 102_400, 1600 * 384, 384 * 192, 192 * 10]),
]


@pytest.mark.parametrize(("name", "options", "shape", "expected"), COUNTS)
def test_multiply_adds(name, options, shape, expected):
    model = build(name, input_shape=shape, classes=10, **options)
    assert workloads.multiply_adds(model, shape) == expected


def test_resnet_multiply_adds_are_the_published_ones():
    model = build("resnet18-gn", input_shape=(3, 32, 32), classes=10)
    # 0.56 G multiply-adds: kuangliu/pytorch-cifar's ResNet-18, counted layer by layer
    assert sum(workloads.multiply_adds(model, (3, 32, 32))) == 555_422_720


def test_the_warm_up_meets_every_batch_size():
    work = workloads.Workload("tiny", "mlp", (4,), 6, 10, 3, 4, 2)
    schedule = work.schedule(2)
    sizes = [
        [w.sizes for w in baselines.client_work(work.data(), schedule.round(t))] for t in range(3)
    ]
    assert sizes == [[[4, 2]] * 3, [[4, 4, 2]] * 3, [[4, 4, 2]] * 3]


def test_every_simulator_gets_a_row(monkeypatch):
    monkeypatch.setattr(simulators, "PATIENCE", 1e-9)
    work = workloads.Workload("tiny", "mlp", (4,), 6, 10, 3, 4, 2, compiles=False)
    rows = {(r.algorithm, r.contestant): r for r in bench_round.benchmark(work, 2, 2, 100.0)}
    names = ["fedfast", "typical", "tuned"]
    assert list(rows) == [
        *(("fedavg", name) for name in [*names, "vmap"]),
        *(("fedsam", name) for name in names),
    ]
    for (algorithm, _), row in rows.items():
        ours = rows[algorithm, "fedfast"].median_s
        assert row.ratio_fedfast == pytest.approx(row.median_s / ours, abs=1e-3)
        assert (row.ratio_sam is None) == (algorithm == "fedavg")
        assert 0.0 <= row.elsewhere <= 1.0
        assert row.p20_s <= row.median_s <= row.p80_s
