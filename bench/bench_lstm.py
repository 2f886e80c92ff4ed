"""`lstm` and `lstm_backward` beside torch's LSTM, `dropout` beside torch's; one thread, CPU time.

Sequences of 80 steps, 256 hidden units (LEAF's character model), one client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from buffers import normal
from fedfast.kernels import dropout, lstm, lstm_backward
from marks import THREAD_TIME, beside
from sizes import pick
from torch import nn

pytestmark = THREAD_TIME
STEPS, HIDDEN = pick((80, 256), (3, 4))
BATCHES, INPUTS = pick(([10, 20, 50], [8, 256]), ([2], [3]))


def actions(batch: int, inputs: int) -> dict[tuple[str, str], Callable[[], object]]:
    """Forward alone, and forward with backward, ours and torch's."""
    cell = nn.LSTM(inputs, HIDDEN, batch_first=True)
    w_ih, w_hh, b_ih, b_hh = parameters = [p.detach()[None].clone() for p in cell.parameters()]
    x, dout = normal(1, batch, STEPS, inputs), normal(1, batch, STEPS, HIDDEN)
    gates = torch.empty(1, batch, STEPS, 4 * HIDDEN)
    cells, out, dx = torch.empty_like(dout), torch.empty_like(dout), torch.empty_like(x)
    sinks = [torch.empty_like(p) for p in parameters]
    leaf = x[0].clone().requires_grad_()

    def forward() -> None:
        lstm(x, w_ih, w_hh, b_ih, b_hh, gates=gates, cells=cells, out=out)

    def both() -> None:
        forward()
        named = dict(dweight_ih=sinks[0], dweight_hh=sinks[1], dbias_ih=sinks[2], dbias_hh=sinks[3])
        lstm_backward(x, w_ih, w_hh, gates, cells, out, dout, dx=dx, **named)

    @torch.no_grad()
    def torch_forward() -> None:
        cell(x[0])

    def torch_both() -> None:
        torch.autograd.grad(cell(leaf)[0], [leaf, *cell.parameters()], dout[0])

    return {
        ("fedfast", "forward"): forward,
        ("torch", "forward"): torch_forward,
        ("fedfast", "both"): both,
        ("torch", "both"): torch_both,
    }


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("part", ["forward", "both"])
@beside("torch")
def test_lstm(batch: int, inputs: int, part: str, contestant: str, benchmark: Any) -> None:
    benchmark.group = f"lstm I = {inputs}, B = {batch}, {part}"
    products = 2 * batch * STEPS * 4 * HIDDEN * (inputs + HIDDEN)
    benchmark.extra_info["flops"] = products * (3 if part == "both" else 1)
    action = actions(batch, inputs)[contestant, part]
    benchmark.pedantic(action, rounds=7, warmup_rounds=1)


@beside("torch")
def test_dropout(contestant: str, benchmark: Any) -> None:
    x, seeds = normal(1, 50, 512), torch.tensor([3])
    out = torch.empty_like(x)
    actions: dict[str, Callable[[], object]] = {
        "fedfast": lambda: dropout(x, 0.5, seeds, out=out),
        "torch": lambda: torch.dropout(x, 0.5, True),
    }
    benchmark.group = "dropout"
    benchmark.extra_info["bytes"] = 8 * x.numel()
    benchmark(actions[contestant])
