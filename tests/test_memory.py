"""How many clients fit a budget, counted by hand; and runs that run out of memory all the same."""

import gc
import types
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from federation import federation, flat, mlp
from test_programs import case
from torch import nn

import fedfast
from fedfast import FlatLayout, memory, steady_rounds
from fedfast.algorithms import SCAFFOLD, FedAdam, FedAvg, FedAvgM, FedSAGM, FedSAM
from fedfast.algorithms.objective import Divergence
from fedfast.algorithms.optimizers import SAM
from fedfast.cli import setting
from fedfast.client_loop import LocalTrainer
from fedfast.config import load
from fedfast.executor import LocalStep, StepTensors
from fedfast.live_buffers import LiveBuffers
from fedfast.programs import bytes_per_client

CPU = torch.device("cpu")
SIZES = [9, 1, 13, 4, 30, 2, 8, 21]


@pytest.mark.parametrize(
    ("algorithm", "banks"),
    [
        (FedAvg(), 2),
        (FedSAM(), 3),
        (FedAvgM(local=SAM(momentum=0.5)), 4),
        (SCAFFOLD(), 2),  # c_i is used where it lies
        (FedSAGM(), 4),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_of_rows(algorithm, banks, dtype):
    layout = FlatLayout.of(nn.Linear(10, 10), dtype)  # 100 weights and 10 biases: 128 + 64 elements
    row = (128 + 64) * dtype.itemsize
    assert memory.bytes_per_client(layout, algorithm) == banks * row
    live = LiveBuffers(layout, algorithm, 5, CPU)
    assert live.addend.nbytes == 5 * memory.addend_bytes(layout, algorithm)
    assert bool(live.addend.nbytes) == isinstance(algorithm, SCAFFOLD)  # c - c_i, all round
    held = [live.w, live.g, live.ahead, live.first, live.m]
    held += [*live.own.values(), *live.scratch.values()]
    assert sum(t.nbytes for t in held if t is not None) == 5 * banks * row
    # the model now, next and as sent; a moment twice
    assert memory.server_bytes(layout, FedAvg()) == 3 * row + 2 * 192 * 8
    assert memory.server_bytes(layout, FedAdam()) == 7 * row + 2 * 192 * 8
    assert memory.server_bytes(layout, SCAFFOLD()) == 5 * row + 3 * 192 * 8


def planned(memory_, chunk=None, each=100, server=50, data=1000, cohort=50):
    return memory.plan(memory_, chunk, cohort, each, server, data, CPU)


def test_auto_takes_a_share_of_what_is_free(monkeypatch):
    for free, expected in ((4 * (50 + 700), 7), (4 * (50 + 799), 7), (1 << 30, 50), (1, 1)):
        monkeypatch.setattr(memory, "free_bytes", lambda _, n=free: n)
        assert planned("auto").chunk == expected
        assert planned("auto", chunk=9).chunk == 9 and planned("auto", chunk=99).chunk == 50
    assert planned("auto").fixed == 50  # the samples are in place already


def test_a_number_is_a_budget_for_everything():
    exactly = (1050 + 7 * 100) / memory.GIB
    assert planned(exactly).chunk == 7
    assert planned(exactly - 1 / memory.GIB).chunk == 6
    assert planned(1050 / memory.GIB, chunk=3).chunk == 3  # a chunk by hand is taken as it is
    with pytest.raises(ValueError, match=r"memory: expected at least 1.07e-06 GiB.*got 1e-06"):
        planned(1e-6)


def test_a_plan_reads_like_a_sentence():
    text = str(memory.MemoryPlan(7, 50, 3 << 20, 1536, 5 << 30))
    assert text == "K = 7 of 50 clients at once, 3 MiB each and 1.5 KiB besides, within 5 GiB"
    small = str(memory.MemoryPlan(1, 1, 100, 0, 2048))
    assert small.endswith("100 B each and 0 B besides, within 2 KiB")


def simulation(**kwargs):
    settings = dict(rounds=3, participation=1.0, local_epochs=2, batch_size=4, server_lr=0.5)
    return fedfast.Simulation(mlp(), federation(SIZES), "fedsam", **(settings | kwargs))


def test_a_run_keeps_to_its_budget():
    free = simulation()
    each, fixed = free.memory.each, memory.data_bytes(free._engine.data) + free.memory.fixed
    # w, g and w_adv: [8 -> 7 -> 4] has 63 + 32 weights, 4 tensors at multiples of 32, of 4 bytes
    activations = 4 * 4 * (8 + 8 + 7 + 7 + 4 + 2 * (7 + 7 + 4))
    assert each > 3 * 192 * 4 and abs(each - 3 * 192 * 4 - activations) < 4 * 4 * 8 * 3
    tight = simulation(memory=(fixed + 3 * each) / memory.GIB)
    assert (free.chunk, tight.chunk) == (8, 3)
    assert str(tight.memory).startswith("K = 3 of 8 clients at once")


def held_by(owner):
    """Address -> bytes of all tensors that an object keeps, its modules' and functions' apart."""
    found, seen, left = {}, set(), [owner]
    while left:
        item = left.pop()
        if id(item) in seen or isinstance(item, (type, types.ModuleType, types.FunctionType)):
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            found[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
        else:
            left += gc.get_referents(item)
    return found


def test_a_divergence_keeps_the_logits_of_the_model_sent():
    _, layout, executor, w, batch = case("mlp", torch.float64)
    tensors = StepTensors(w, w, torch.zeros_like(w), torch.zeros(3, dtype=torch.float64))
    executor.gradients(LocalStep(), tensors, batch)
    before = held_by(executor)
    step = LocalStep(objective=Divergence(w[0], 3.0, (0, layout.trained)))
    executor.gradients(step, tensors, batch)
    counted = (bytes_per_client(executor.program, 5, 8, diverges=d) for d in (False, True))
    plain, both = counted
    new = {at: size for at, size in held_by(executor).items() if at not in before}
    assert before and sum(new.values()) == 3 * (both - plain) > 0


def test_fedsol_is_planned_with_them_and_without_buffers_of_sam():
    """Beside FedAvg a row, the perturbed model, and logits [4, 4] in float32."""
    settings = dict(rounds=1, batch_size=4)
    plain = fedfast.Simulation(mlp(), federation(SIZES), "fedavg", **settings).memory
    fedsol = fedfast.Simulation(mlp(), federation(SIZES), "fedsol", **settings).memory
    assert fedsol.each - plain.each == 192 * 4 + 4 * 4 * 4


@pytest.mark.parametrize("given", [0, -1.0, "much", True, float("nan")])
def test_a_budget_must_be_a_number(given):
    with pytest.raises((ValueError, TypeError), match="memory: expected"):
        simulation(memory=given)


def failing(monkeypatch, times, most=100):
    """`LocalTrainer.train` runs out of memory at these calls, and with more than `most` clients."""
    train, calls = LocalTrainer.train, []
    # Devices on which memory runs out have no such rounds.
    monkeypatch.setattr(steady_rounds, "repeats", lambda *run: False)

    def fails(self, start, batches, *args):
        result = train(self, start, batches, *args)  # late: what it wrote must not matter
        calls.append(len(batches.clients))
        if len(calls) in times or len(batches.clients) > most:
            raise torch.OutOfMemoryError("CUDA out of memory (not really)")
        return result

    monkeypatch.setattr(LocalTrainer, "train", fails)
    return calls


@pytest.mark.parametrize("loss", ["cross_entropy", F.cross_entropy], ids=["program", "generic"])
@pytest.mark.parametrize(
    ("chunk", "times", "most", "expected"),
    [(None, (1,), 100, 4), (None, (3,), 100, 4), (None, (2, 3), 100, 2), (6, (2,), 2, 1)],
)
def test_out_of_memory_halves_k_and_changes_no_bit(
    monkeypatch, caplog, loss, chunk, times, most, expected
):
    plain = simulation(loss=loss)
    rows = [(r.train_loss, r.update_norm) for r in plain.run(progress=False)]
    failing(monkeypatch, times, most)
    sim = simulation(loss=loss, chunk=chunk)
    buffers = weakref.ref(sim._engine.trainer.live.w)
    assert [(r.train_loss, r.update_norm) for r in sim.run(progress=False)] == rows
    assert torch.equal(flat(sim.state_dict()), flat(plain.state_dict()))
    assert sim.chunk == expected and f"going on with {expected}" in caplog.text
    gc.collect()
    assert buffers() is None, "the larger buffers are still held"


def test_buffers_that_do_not_fit_are_halved_before_training(monkeypatch):
    bank = FlatLayout.bank

    def small(self, clients, *args, **kwargs):
        if clients > 3:
            raise torch.OutOfMemoryError("CUDA out of memory (not really)")
        return bank(self, clients, *args, **kwargs)

    expected = flat(simulation(rounds=1, chunk=2).model().state_dict())
    monkeypatch.setattr(FlatLayout, "bank", small)
    sim = simulation(rounds=1)
    assert sim.chunk == 2
    assert torch.equal(flat(sim.model().state_dict()), expected)


def test_one_client_that_does_not_fit_ends_the_run(monkeypatch):
    calls = failing(monkeypatch, (), most=0)
    with pytest.raises(torch.OutOfMemoryError):
        simulation().run(progress=False)
    assert calls == [8, 4, 2, 1]


def test_what_caches_files_counts_as_free(monkeypatch, tmp_path):
    assert 1 << 20 < memory.free_bytes(CPU) < 1 << 50  # what the system reports
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n")
    monkeypatch.setattr("fedfast.data.size_limits.MEMINFO", meminfo)
    assert memory.free_bytes(CPU) == 4000 * 1024
    meminfo.unlink()
    assert 1 << 20 < memory.free_bytes(CPU) < 1 << 50


@pytest.mark.parametrize("worth", [0, 1 << 40])
def test_what_a_simulation_leaves_is_freed_before_the_next_where_that_is_worth_it(
    worth, monkeypatch
):
    config = load(Path(__file__).parent.parent / "examples" / "quickstart.yaml")
    found = setting.prepare(config)
    monkeypatch.setattr(setting, "WORTH_COLLECTING", worth)
    gc.collect()
    gc.disable()
    try:
        sim = setting.simulation(config, found, "fedavg")
        left = weakref.ref(sim._engine.committed.clients)  # tied to its other state
        del sim
        setting.simulation(config, found, "fedsam")
        assert (left() is None) == (worth == 0)
    finally:
        gc.enable()
