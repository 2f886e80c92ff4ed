"""What a round has to compute and to move at least, phase by phase, in closed form.

    forward_backward  FLOPs: passes * samples * (forward and backward of one sample)
    evaluate          FLOPs: test samples * forward of one
    gather            bytes: every sample read and written once per step
    perturb           bytes: w and g read, w + rho g written, per client and step
    step              bytes: w, g and every further operand read, w written, per client and step
    aggregate         bytes: every model read
    state             bytes: every client row read and written

Where a step or a perturbation is folded into the backward pass it has no time of its own, and no
fraction. Fractions above 1 say that the caches gave what memory could not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from .machine import Rates

if TYPE_CHECKING:
    from torch import Tensor, nn

COMPUTING = ("forward_backward", "evaluate")
LEAST = 2e-6  # seconds: below it a phase is an entry and an exit


@dataclass(frozen=True)
class Workload:
    """One algorithm's client, whatever the size of the study.

    row      bytes of a model's trained row; sample: of one as it is trained on
    samples, steps  that a client sees and takes in a round, mean
    passes   gradients per step; kinds: rows that a client keeps between rounds
    operands of a step beside w and g (momentum, client rows, server rows)
    forward, backward  FLOPs of one sample
    tested   samples of the global test set
    """

    row: float
    sample: float
    samples: float
    steps: float
    passes: int
    kinds: int
    operands: int
    forward: float
    backward: float
    tested: int

    def flops(self, cohort: float) -> float:
        """Of a round's training."""
        return self.passes * cohort * self.samples * (self.forward + self.backward)

    def amounts(self, cohort: float) -> dict[str, float]:
        """FLOPs of the phases that compute, bytes of those that move."""
        rows = cohort * self.steps * self.row
        return {
            "gather": 2 * cohort * self.samples * self.sample,
            "forward_backward": self.flops(cohort),
            "perturb": 3 * rows if self.passes > 1 else 0.0,
            "step": (3 + self.operands) * rows,
            "aggregate": cohort * self.row,
            "state": 2 * self.kinds * cohort * self.row,
            "evaluate": self.tested * self.forward,
        }

    def as_json(self) -> dict[str, float]:
        """Plain values: `Workload(**...)`."""
        return asdict(self)


def fractions(
    work: Workload, cohort: float, seconds: Mapping[str, float], rates: Rates
) -> dict[str, float]:
    """Of the measured FLOP rate or bandwidth, for phases that have a time of their own."""
    found = {}
    for name, amount in work.amounts(cohort).items():
        rate = rates.flops if name in COMPUTING else rates.bandwidth
        if amount and seconds.get(name, 0.0) > LEAST:
            found[name] = amount / seconds[name] / rate
    return found


def flops_of(module: nn.Module, x: Tensor) -> tuple[float, float]:
    """(forward, backward) FLOPs per sample of products and convolutions, counted by torch.

    x  some samples; parameters that require no gradient have no backward.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from ..copies import copy_of

    own = copy_of(module)
    with FlopCounterMode(display=False) as counter:
        out = own(x)
        forward = counter.get_total_flops()
        if out.requires_grad:
            out.float().sum().backward()
    return forward / len(x), (counter.get_total_flops() - forward) / len(x)
