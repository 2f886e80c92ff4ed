"""SAM around one dense layer, and its clipped step: thin factors against the gradient written down.

Both do what the two passes of `programs/sam.py` do for one layer, from the first pass' gradients to
the second's outputs and data gradients; the final weight gradient, which both need, is left out.
For the clip: those of `programs/clip.py`, from the output's gradient to the moved weights. Plans
run them client by client; one thread, CPU time. `chosen` in extra_info is what `is_thin` and
`is_late` choose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fedfast.kernels import Plan, ghost, linear, linear_backward, lowrank, mix, reach, stats
from marks import THREAD_TIME
from sizes import pick
from torch import Tensor

from fedfast.programs.clip import is_late
from fedfast.programs.sam import is_thin

pytestmark = THREAD_TIME
K = pick(6, 2)
# (I, O, whether it reads the samples) of the papers' MLPs and CNNs.
LAYERS = [(784, 200, True), (200, 10, False), (1024, 1024, False), (3136, 512, False)]
LAYERS, BATCHES = pick((LAYERS, (10, 50, 200)), ([(8, 4, True), (8, 4, False)], (3,)))


class DenseLayer:
    """One layer of K clients in both passes."""

    def __init__(self, batch: int, inputs: int, outputs: int, samples: bool) -> None:
        self.samples = samples
        self.x, self.d = torch.randn(K, batch, inputs), torch.randn(K, batch, outputs)
        self.x2, self.d2 = torch.randn_like(self.x), torch.randn_like(self.d)
        self.w = torch.randn(K, outputs, inputs) * inputs**-0.5
        self.g, self.w_adv = torch.zeros_like(self.w), torch.zeros_like(self.w)
        self.out, self.dx = torch.empty_like(self.d), torch.empty_like(self.x)
        self.gram, self.scale = torch.empty(K, batch, batch), torch.zeros(K)
        self.squares = torch.zeros(K, 1, dtype=torch.float64)
        self.sums = torch.zeros(K, 1, 5, dtype=torch.float64)

    def written(self) -> None:
        """The gradient in g, the perturbed weights in w_adv."""
        self._data(self.d, dweight=self.g)
        stats(self.g.flatten(1), out=self.sums)
        reach([self.sums[..., 0]], 0.05, 1e-12, out=self.scale)
        mix(self.w.flatten(1), self.g.flatten(1), b=self.scale, out=self.w_adv.flatten(1))
        linear(self.x if self.samples else self.x2, self.w_adv, out=self.out)
        self._data(self.d2, weight=self.w_adv)

    def factors(self) -> None:
        """Neither."""
        self._data(self.d)
        ghost(self.x, self.d, gram=self.gram, squares=self.squares[:, 0])
        reach([self.squares], 0.05, 1e-12, out=self.scale)
        gram = self.gram if self.samples else None
        if not self.samples:
            linear(self.x2, self.w, out=self.out)
        x, v = self.x if self.samples else self.x2, self.d
        lowrank(x, self.x, v, self.scale, base=self.out, gram=gram, out=self.out)
        self._data(self.d2)
        if not self.samples:
            lowrank(self.d2, self.d, self.x, self.scale, base=self.dx, out=self.dx)

    def clipped(self) -> None:
        """The gradient in g; then the step."""
        self._data(self.d, dweight=self.g)
        stats(self.g.flatten(1), out=self.sums)
        reach([self.sums[..., 0]], 1.0, 1e-6, most=1.0, out=self.scale)
        w = self.w.flatten(1)
        mix(w, self.g.flatten(1), b=self.scale, out=w)

    def late(self) -> None:
        """The norm; then the product, straight into the weights."""
        self._data(self.d)
        ghost(self.x, self.d, gram=self.gram, squares=self.squares[:, 0])
        reach([self.squares], 1.0, 1e-6, most=1.0, out=self.scale)
        to = dict(dweight=self.w, alpha=self.scale, beta=1.0)
        linear_backward(self.x, self.w, self.d, self.d, **to)

    def _data(self, d: Tensor, weight: Tensor | None = None, dweight: Tensor | None = None) -> None:
        dx = None if self.samples else self.dx
        linear_backward(self.x, self.w if weight is None else weight, d, d, dx=dx, dweight=dweight)


def recorded(body: Callable[[], None]) -> Plan:
    """The plan of `body`."""
    with Plan() as plan:
        body()
    return plan


@pytest.mark.parametrize("layer", LAYERS, ids=lambda v: "{}-{}".format(*v) + "-first" * v[2])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("purpose", ["ascent", "clip"])
@pytest.mark.parametrize("way", ["written", "factors"])
def test_lowrank(
    layer: tuple[int, int, bool], batch: int, purpose: str, way: str, benchmark: Any
) -> None:
    inputs, outputs, samples = layer
    dense, size = DenseLayer(batch, *layer), (batch, inputs, outputs)
    late = is_late(*size) if purpose == "clip" else is_thin(*size, samples=samples)
    bodies = {
        ("ascent", "written"): dense.written,
        ("ascent", "factors"): dense.factors,
        ("clip", "written"): dense.clipped,
        ("clip", "factors"): dense.late,
    }
    first = " first" if samples else ""
    benchmark.group = f"{purpose} {inputs} -> {outputs}{first}, B = {batch}"
    benchmark.extra_info["chosen"] = "factors" if late else "written"
    plan = recorded(bodies[purpose, way])
    benchmark.pedantic(plan.run, args=(K, 1), rounds=15, warmup_rounds=1)
