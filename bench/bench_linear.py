"""`linear` and `linear_backward`: GFLOP/s beside a large torch.mm and torch.bmm in the same run.

    pytest -q bench/bench_linear.py        one thread; rows in bench/results/linear.csv

K = 10 clients, each with its own weights. All take turns, so that a busy machine slows all alike;
the 20th percentile of their times counts.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from alternate import Action, alternate, torch_threads
from fedfast.kernels import linear, linear_backward
from result_files import append, stamp

K, ROUNDS, LARGE = 10, 15, 1024
# (I, O) of the MLP and the CNN of McMahan et al. 2017, and two square-ish layers.
LAYERS = [(784, 200), (200, 200), (200, 10), (3136, 512), (1024, 512), (512, 1024)]


def gflops(actions: dict[str, tuple[float, Action]]) -> dict[str, float]:
    """GFLOP/s of each; `actions` are (floating point operations, action)."""
    timed = {name: action for name, (_, action) in actions.items()}
    seconds = alternate(timed, ROUNDS, 2, time.perf_counter)
    fast = {name: sorted(spent)[ROUNDS // 5] for name, spent in seconds.items()}
    return {name: flops / fast[name] / 1e9 for name, (flops, _) in actions.items()}


def actions(batch: int, inputs: int, outputs: int) -> dict[str, tuple[float, Action]]:
    """Each operation, what torch would do instead, and the large product."""
    flops = 2.0 * K * batch * inputs * outputs
    x, dx = torch.randn(K, batch, inputs), torch.empty(K, batch, inputs)
    w, b = torch.randn(K, outputs, inputs) * inputs**-0.5, torch.randn(K, outputs)
    out, dout = torch.empty(K, batch, outputs), torch.randn(K, batch, outputs)
    a, c = torch.randn(LARGE, LARGE), torch.empty(LARGE, LARGE)
    turned, step = w.transpose(1, 2), {"alpha": -1e-6, "beta": 1.0}

    def weights() -> None:
        linear_backward(x, w, out, dout, dweight=w, dbias=b, **step)

    def both() -> None:
        linear_backward(x, w, out, dout, dx=dx, dweight=w, dbias=b, **step)

    return {
        "forward": (flops, lambda: linear(x, w, b, out=out)),
        "weights": (flops, weights),
        "backward": (2 * flops, both),
        "bmm_forward": (flops, lambda: torch.bmm(x, turned, out=out)),
        "bmm_data": (flops, lambda: torch.bmm(dout, w, out=dx)),
        "bmm_weights": (flops, lambda: w.baddbmm_(dout.transpose(1, 2), x, alpha=-1e-6)),
        "large_mm": (2.0 * LARGE**3, lambda: torch.mm(a, a, out=c)),
    }


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("batch", [10, 50, 64])
def test_linear(batch: int, layer: tuple[int, int], benchmark: Any) -> None:
    with torch_threads(1):
        timed = actions(batch, *layer)
        rates = gflops(timed)
        benchmark.pedantic(timed["forward"][1], rounds=5, warmup_rounds=1)
    rates["bmm_backward"] = 2 / (1 / rates["bmm_data"] + 1 / rates["bmm_weights"])
    benchmark.extra_info.update(rates)
    record(batch, *layer, rates)
    mine = ("forward", "weights", "backward")
    print(
        f"\nB={batch} I={layer[0]} O={layer[1]}, GFLOP/s (bmm): "
        + ", ".join(f"{n} {rates[n]:.0f} ({rates['bmm_' + n]:.0f})" for n in mine)
        + f"; large mm {rates['large_mm']:.0f}"
    )


def record(batch: int, inputs: int, outputs: int, rates: dict[str, float]) -> None:
    """Append a row to linear.csv."""
    figures = {
        "clients": K,
        "batch": batch,
        "inputs": inputs,
        "outputs": outputs,
        **{f"{name}_gflops": round(rate, 1) for name, rate in rates.items()},
    }
    append("linear", stamp(1) | figures)
