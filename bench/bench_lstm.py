"""`lstm` and `lstm_backward` beside torch's LSTM, `dropout` beside torch's, on one thread.

    pytest -q bench/bench_lstm.py          rows in bench/results/lstm.csv

Sequences of 80 steps, 256 hidden units (LEAF's character model), one client. All take turns and
the least CPU time of their thread counts, so that a busy machine changes little.
"""

from __future__ import annotations

import pytest
import torch
from alternate import Action, alternate, torch_threads
from fedfast.kernels import dropout, lstm, lstm_backward
from result_files import append, stamp
from torch import nn

STEPS, HIDDEN, ROUNDS = 80, 256, 7
NAMES = ("forward", "torch_forward", "both", "torch_both")


def milliseconds(actions: dict[str, Action]) -> dict[str, float]:
    """Milliseconds of each."""
    return {name: 1e3 * min(seconds) for name, seconds in alternate(actions, ROUNDS).items()}


def actions(batch: int, inputs: int) -> dict[str, Action]:
    """Forward alone, and forward with backward, ours and torch's."""
    cell = nn.LSTM(inputs, HIDDEN, batch_first=True)
    w_ih, w_hh, b_ih, b_hh = parameters = [p.detach()[None].clone() for p in cell.parameters()]
    x, dout = torch.randn(1, batch, STEPS, inputs), torch.randn(1, batch, STEPS, HIDDEN)
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
        "forward": forward,
        "torch_forward": torch_forward,
        "both": both,
        "torch_both": torch_both,
    }


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


@pytest.mark.parametrize("inputs", [8, 256])
@pytest.mark.parametrize("batch", [10, 20, 50])
def test_lstm(batch: int, inputs: int) -> None:
    record("lstm", batch, inputs, milliseconds(actions(batch, inputs)))


def test_dropout() -> None:
    x, seeds = torch.randn(1, 50, 512), torch.tensor([3])
    out = torch.empty_like(x)
    actions: dict[str, Action] = {
        "forward": lambda: dropout(x, 0.5, seeds, out=out),
        "torch_forward": lambda: torch.dropout(x, 0.5, True),
    }
    record("dropout", 50, 512, milliseconds(actions))


def record(operation: str, batch: int, inputs: int, spent: dict[str, float]) -> None:
    """Append a row to lstm.csv."""
    figures = {
        "operation": operation,
        "batch": batch,
        "inputs": inputs,
        **{f"{name}_ms": round(spent[name], 3) if name in spent else "" for name in NAMES},
    }
    append("lstm", stamp(1) | figures)
    print(f"\n{figures}")
