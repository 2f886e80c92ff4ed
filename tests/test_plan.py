"""A plan's run is its operations' own results, to the bit, whoever runs how many steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fedfast.kernels import (
    Counted,
    Lanes,
    Plan,
    Server,
    aggregate,
    cross_entropy,
    feed,
    gather,
    gram,
    linear,
    linear_backward,
    mix,
    stats,
    tally,
    turn,
)
from layer_cases import block, poison, same, threads
from torch import Tensor

from fedfast.batches import Packing

K, B, IN, OUT = 5, 6, 30, 7


class Net:
    """One dense layer, its loss and a folded step, over fixed buffers."""

    def __init__(self, clients: int = K) -> None:
        self.x, self.w = block(1, clients, B, IN), block(2, clients, OUT, IN)
        self.y = torch.arange(clients * B).view(clients, B) % OUT
        self.count = torch.tensor([B, 3, 1, B, 2][:clients], dtype=torch.int32)
        self.z, self.losses = poison(clients, B, OUT), poison(clients)
        self.sums = poison(clients, 1, 5).double()

    def work(self) -> None:
        """What is recorded: blocks, loss, and two operations on rows."""
        linear(self.x, self.w, out=self.z)
        cross_entropy(self.z, self.y, self.count, losses=self.losses, dlogits=self.z)
        linear_backward(self.x, self.w, self.z, self.z, dweight=self.w, alpha=-0.1, beta=1.0)
        row = self.w.flatten(1)
        mix(row, row, torch.linspace(0, 1, K)[: len(row)], 0.5, out=row)
        stats(row, out=self.sums)

    def results(self) -> tuple[Tensor, ...]:
        return self.w, self.z, self.losses, self.sums


def recorded(body: Callable[[], None]) -> Plan:
    with Plan() as plan:
        body()
    return plan


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("elements", [1, 1 << 20])
def test_a_run_is_the_operations_themselves(count: int, elements: int) -> None:
    expected, net = Net(), Net()
    before = net.w.clone()
    plan = recorded(net.work)
    same(net.w, before)
    assert net.losses.isnan().all(), "recorded, not run"
    with threads(count):
        for _ in range(2):
            expected.work()
            plan.run(K, elements)
            for found, wanted in zip(net.results(), expected.results(), strict=True):
                same(found, wanted)


def test_a_plan_serves_fewer_clients_and_leaves_the_others_alone() -> None:
    expected, net = Net(), Net()
    before = net.w.clone()
    recorded(net.work).run(2, 1)
    expected.work()
    for found, wanted in zip(net.results(), expected.results(), strict=True):
        same(found[:2], wanted[:2])
    same(net.w[2:], before[2:])


def test_a_plan_keeps_its_buffers_alive() -> None:
    bank, out = block(1, K, 40), torch.zeros(K, 40)
    plan = recorded(lambda: mix(bank.clone(), torch.zeros(K, 40), out=out))
    rubbish = [torch.full((K, 40), torch.nan) for _ in range(50)]  # would take freed memory
    plan.run(K, 1)
    same(out, bank)
    assert len(rubbish) == 50


def packed(steps: list[int]) -> Packing:
    return Packing.of(np.array(steps))


def test_steps_run_client_by_client_each_as_many_as_it_has() -> None:
    steps = [3, 3, 2, 1, 0]
    packing = packed(steps)
    assert packing.begins == [0, 4, 7, 9]
    bank, rows = block(3, 20, IN), torch.randint(20, (9, B))
    counts = torch.randint(1, B + 1, (9,), dtype=torch.int32)
    losses, total, now = torch.rand(K), poison(K).double(), torch.zeros(K, dtype=torch.int32)
    x, picked, seen = torch.zeros(K, B, IN), torch.zeros(K, B, dtype=torch.int64), torch.zeros(K, 1)

    def one(sign: float) -> Callable[[], None]:
        def body() -> None:
            feed(rows, counts, picked, now)
            gather(bank, picked, out=x)
            mix(seen, torch.ones(K, 1), 10.0, sign, out=seen)
            tally(losses, now, total)

        return body

    def end() -> None:
        mix(seen, torch.ones(K, 1), 10.0, 7.0, out=seen)

    with threads(2):
        first, rest, last = recorded(one(1.0)), recorded(one(2.0)), recorded(end)
        first.run_steps(rest, packing.offsets, 1 << 20, last=last)
    assert seen[:, 0].tolist() == [1227.0, 1227.0, 127.0, 17.0, 0.0]
    for k, n in enumerate(steps):
        lines = [packing.begins[s] + k for s in range(n)]
        wanted = sum((losses[k].double() * counts[i] for i in lines), torch.zeros(()).double())
        if n:
            same(total[k], wanted)
            same(x[k], bank[rows[lines[-1]]])
        else:
            assert total[k].isnan() and not x[k].any()


def test_each_step_has_its_number_and_those_behind_the_last_its_own() -> None:
    packing, table = packed([4, 2, 1]), torch.tensor([1.0, 2.0, 3.0])
    now, seen = poison(3), torch.zeros(3, 1)

    def body() -> None:
        turn(table, now)
        mix(seen, torch.ones(3, 1), 10.0, now, out=seen)

    plan = recorded(body)
    plan.run_steps(plan, packing.offsets, 1)
    assert seen[:, 0].tolist() == [1233.0, 12.0, 1.0]
    for bad, message in ((torch.zeros(0), "T > 0"), (torch.zeros(2, 2), "1 dim")):
        with pytest.raises(ValueError, match=f"table.*{message}"):
            turn(bad, now)
    with pytest.raises(TypeError, match="now: expected dtype torch.float32"):
        turn(table, now.double())


@pytest.mark.parametrize(("workers", "steps"), [(1, [2] * 5), (2, [2] * 5), (2, [9, 1, 1, 1, 1])])
def test_rows_of_threads_are_filled_for_each_client(workers: int, steps: list[int]) -> None:
    """As rows of clients would be; those behind the first so many threads are never touched."""
    packing, own, seen = packed(steps), block(3, K, 7), torch.zeros(K, 7)
    lanes, zero = torch.full((K, 7), torch.nan), torch.zeros(K, 7)

    def fill() -> None:
        mix(own, zero, out=lanes)

    def add() -> None:
        mix(seen, lanes, out=seen)

    with threads(workers):
        plan, filling = recorded(add), recorded(fill)
        plan.run_steps(plan, packing.offsets, 1 << 20, lanes=Lanes([zero, lanes], filling))
    same(seen, sum_of(own, steps))
    assert lanes[workers:].isnan().all()


def sum_of(own: Tensor, steps: list[int]) -> Tensor:
    """Each row added up as often as there are steps, in float32 as `mix` does."""
    total = torch.zeros_like(own)
    for k, n in enumerate(steps):
        for _ in range(n):
            total[k] += own[k]
    return total


def test_a_row_that_would_be_alike_is_not_filled_again() -> None:
    packing, own, seen = packed([1] * K), block(3, K, 7), torch.zeros(K, 7)
    lanes, zero, alike = torch.zeros(K, 7), torch.zeros(K, 7), torch.tensor([3, 3, 4, 3, 3])
    with threads(1):
        filling = recorded(lambda: mix(own, zero, out=lanes))
        plan = recorded(lambda: mix(lanes, zero, out=seen))
        plan.run_steps(plan, packing.offsets, 1 << 20, lanes=Lanes([lanes], filling, alike))
    same(seen, own[[0, 0, 2, 3, 3]])


@pytest.mark.parametrize("workers", [1, 2])
def test_counted_batches_leave_out_what_lies_beyond_them(workers: int) -> None:
    """As operations on the client's samples alone; what lies beyond is neither read nor written."""
    net, width = Net(), B
    counts = [6, 3, 1, 6, 2]
    for k, n in enumerate(counts):
        net.x[k, n:], net.y[k, n:] = torch.nan, 10**9
    plan, before = recorded(net.work), net.w.clone()
    with threads(workers):
        plan.run(K, 1 << 20, Counted(net.count, width))
    for k, n in enumerate(counts):
        alone = Net(1)
        alone.x, alone.w, alone.z = net.x[k : k + 1, :n], before[k : k + 1], poison(1, n, OUT)
        alone.y, alone.count = net.y[k : k + 1, :n], net.count[k : k + 1]
        alone.work()
        same(net.z[k, :n], alone.z[0])
        same(net.losses[k], alone.losses[0])
        assert net.z[k, n:].isnan().all()


def test_a_bad_index_is_reported_after_the_run() -> None:
    net = Net()
    plan = recorded(net.work)
    net.y[3, 0] = OUT
    with pytest.raises(IndexError, match="out of range"):
        plan.run(K, 1)
    good = Net()
    good.work()
    same(net.w[:3], good.w[:3])


def test_what_cannot_be_recorded_raises_and_ends_the_recording() -> None:
    bank = block(1, K, 40)
    with pytest.raises(TypeError, match="cannot be part of a plan"):
        recorded(lambda: gram(bank))
    with pytest.raises(TypeError, match="being recorded already"):
        recorded(lambda: _enter(Plan()))
    out = mix(bank, bank, 1.0, 1.0)
    same(out, 2 * bank)


def _enter(plan: Any) -> None:
    plan.__enter__()


def test_a_plan_of_whole_calls_repeats_them_on_what_lies_there_then():
    models, sent, out = block(3, 9, 700), block(4, 700), poison(700)
    weights, sums = torch.full((9,), 1 / 9), torch.zeros(700, dtype=torch.float64)
    with Plan(whole=True) as plan:
        norms = aggregate(models, weights, sent, acc=sums, server=Server(), out=out)
    for seed in (5, 6):
        models.copy_(block(seed, 9, 700))
        plan.run_whole()
        expected, acc = poison(700), torch.zeros_like(sums)
        found = aggregate(models, weights, sent, acc=acc, server=Server(), out=expected)
        assert torch.equal(norms, found) and torch.equal(out, expected) and torch.equal(sums, acc)
    with pytest.raises(TypeError, match="run by run_whole alone"):
        plan.run(1, 700)
    with Plan() as by_client, pytest.raises(TypeError, match="cannot be part of a plan"):
        aggregate(models, weights, sent, acc=sums)
    by_client.run(0, 1)
