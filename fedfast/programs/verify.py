"""The verification of a layer program: its numbers against autograd's on the user's module.

Weights are moved a little from where they start, so that layers which start at zero hide nothing;
dropout takes the program's own masks on both sides. Gradients and statistics are compared tensor by
tensor (`tolerance.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..constants import cast
from ..copies import copy_of
from ..executor import LocalStep, StepTensors
from ..input_pipeline import SampleSource
from ..kernels import registry
from ..layout import FlatLayout
from ..random_state import kept_random_state
from .dropout_masks import SEED
from .evaluator import ProgramEvaluator, evaluation_program
from .executor import ProgramExecutor
from .module_reference import forward, gradients, holding, moved, size_of_all
from .program import Program
from .tolerance import apart

SAMPLES = 8


@dataclass(frozen=True)
class Subject:
    """A module with its weights `row` [S], and samples x [n, ...] to compare it on, n >= 1."""

    module: nn.Module
    layout: FlatLayout
    row: Tensor
    x: Tensor
    backend: str

    def wide(self) -> Subject:
        """The same in float64."""
        module = cast(copy_of(self.module), self.x.device, torch.float64)
        x = self.x.double() if self.x.is_floating_point() else self.x
        layout = replace(self.layout, dtype=torch.float64)
        return replace(self, module=module, layout=layout, row=self.row.double(), x=x)


def spread(samples: int) -> Tensor:
    """Places of at most SAMPLES of that many samples, apart: they are of several clients."""
    return torch.linspace(0, samples - 1, min(SAMPLES, samples), dtype=torch.float64).long()


def difference(subject: Subject, program: Program | None = None, y: Tensor | None = None) -> str:
    """What programs compute otherwise than the module does, "" for nothing.

    program, y  of a training step on targets y [n]; without them evaluation alone is compared
    """

    def compare(subject: Subject) -> str:
        copied, found = holding(subject.module, subject.layout, subject.row), ""
        if program is not None and y is not None:
            found = _training(copied, program, subject, y)
        return found or _evaluation(copied, subject)

    return _confirmed(compare, replace(subject, row=moved(subject.row, subject.layout)))


def _confirmed(compare: Callable[[Subject], str], subject: Subject) -> str:
    """What `compare` finds; in float32 only what it finds in float64 too."""
    with kept_random_state(), torch.enable_grad():
        found = compare(subject)
        if not found or subject.layout.dtype != torch.float32 or " differs " not in found:
            return found
        # Deep networks and kinks enlarge float32's rounding; a true difference stays in float64.
        wide = subject.wide()
        try:
            still = compare(wide)
        except RuntimeError:  # float32 is written into the module itself
            return found
        return found if still else ""


def _training(copied: nn.Module, program: Program, subject: Subject, y: Tensor) -> str:
    layout = subject.layout
    logits, cause = forward(copied.train(), subject.x)
    if cause:
        return cause
    loss = F.cross_entropy(logits, y)
    if not loss.requires_grad:
        return "its logits have no gradient"
    want = gradients(copied, layout, loss)
    tensors = dict(copied.named_buffers())
    statistics = [s.name for s in layout.slots if s.name in tensors and s not in layout.counters]
    buffers = {name: tensors[name].clone() for name in statistics}
    again, _ = forward(copied, subject.x)
    if found := apart("a second call's logits", again, logits):
        return found
    value, g, after = _step(program, subject, y)
    if found := apart("the training loss", value, loss):
        return found
    have = layout.views(g, trained_only=True)
    size = float(torch.stack([t.norm() for t in want.values()]).norm())

    @cache
    def whole() -> float:
        return size_of_all(holding(subject.module, layout, subject.row).train(), subject.x, y)

    gradient = (
        apart(f"the gradient of {name}", g, want[name], size, whole) for name, g in have.items()
    )
    statistic = (apart(f"{name} after a step", after[name], t) for name, t in buffers.items())
    return next(filter(None, chain(gradient, statistic)), "")


def _step(
    program: Program, subject: Subject, y: Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(loss [], gradient [>= trained], tensors after the pass) by the program, as in a run."""
    layout, x, device = subject.layout, subject.x, subject.x.device
    program = program.holding(subject.module)
    executor = ProgramExecutor(program, layout, 1, len(x), device, subject.backend)
    model, g = subject.row[None].clone(), layout.bank(1, device, full=False)
    losses = torch.zeros(1, dtype=layout.dtype, device=device)
    count = torch.full((1,), len(x), dtype=torch.int32, device=device)
    seeds = torch.full((1,), SEED, dtype=torch.int64, device=device)
    source = SampleSource(x, y, x.dtype, subject.backend, {})
    batch = executor.batch(source, torch.arange(len(x), device=device)[None], count, seeds)
    tensors = StepTensors(model[:, : layout.trained], model, g, losses)
    executor.gradients(LocalStep(), tensors, batch)
    return losses[0], g[0], layout.views(model[0])


def _evaluation(copied: nn.Module, subject: Subject) -> str:
    layout, row, x = subject.layout, subject.row, subject.x
    if not registry.capabilities(subject.backend, row).evaluates:
        return ""
    program = evaluation_program(copied, layout, x)
    if program is None:
        return ""  # the module evaluates itself
    with torch.no_grad():
        layout.write(row, copied)
        logits, cause = forward(copied.eval(), x)
        if cause:
            return f"in evaluation {cause}"
        backend, width = subject.backend, len(x)
        evaluator = ProgramEvaluator(program, layout, F.cross_entropy, x, backend, width=width)
        return apart("logits in evaluation", evaluator.logits(row, x), logits)
