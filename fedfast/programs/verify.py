"""The proof of a layer program: its numbers against autograd's on the user's module.

Weights are moved a little from where they start, so that layers which start at zero hide nothing;
dropout takes the program's own masks on both sides.

    |g_p - autograd_p| <= r |autograd_p| + a |autograd|      for each parameter p
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..constants import cast
from ..copies import copy_of
from ..input_pipeline import View
from ..kernels.registry import choose
from ..layout import FlatLayout
from ..module_executor import Minibatch
from ..random_state import kept_random_state, same, states
from .dropout_masks import SEED, Masks
from .elementwise import Dropout
from .evaluator import ProgramEvaluator
from .executor import ProgramExecutor
from .program import Program
from .trace import trace

SAMPLES = 8
RELATIVE = {torch.float32: 1e-4, torch.float64: 1e-7}
ABSOLUTE = {torch.float32: 2e-5, torch.float64: 1e-10}


def spread(samples: int) -> Tensor:
    """Places of at most SAMPLES of that many samples, apart: they are of several clients."""
    return torch.linspace(0, samples - 1, min(SAMPLES, samples), dtype=torch.float64).long()


def difference(
    module: nn.Module,
    program: Program,
    layout: FlatLayout,
    row: Tensor,
    x: Tensor,
    y: Tensor,
    backend: str,
) -> str:
    """What the program computes otherwise than `module` does, "" for nothing.

    row  [S]; x, y  [n, ...], [n], n >= 1
    """

    def compare(module: nn.Module, layout: FlatLayout, row: Tensor, x: Tensor) -> str:
        return _compared(module, program, layout, row, x, y, backend)

    return _settled(compare, module, layout, _moved(row, layout), x)


def misevaluated(
    module: nn.Module, layout: FlatLayout, row: Tensor, x: Tensor, backend: str
) -> str:
    """What a program computes otherwise than `module` in evaluation, "" for nothing."""

    def compare(module: nn.Module, layout: FlatLayout, row: Tensor, x: Tensor) -> str:
        return _evaluation(_holding(module, layout, row), layout, row, x, backend)

    return _settled(compare, module, layout, _moved(row, layout), x)


def _settled(
    compare: Callable[[nn.Module, FlatLayout, Tensor, Tensor], str],
    module: nn.Module,
    layout: FlatLayout,
    row: Tensor,
    x: Tensor,
) -> str:
    """What `compare` finds; in float32 only what it finds in float64 too."""
    with kept_random_state(), torch.enable_grad():
        found = compare(module, layout, row, x)
        if not found or layout.dtype != torch.float32 or " differs " not in found:
            return found
        # Deep networks and kinks enlarge float32's rounding; a true difference stays in float64.
        wide = cast(copy_of(module), x.device, torch.float64)
        x = x.double() if x.is_floating_point() else x
        again = replace(layout, dtype=torch.float64)
        try:
            still = compare(wide, again, row.double(), x)
        except RuntimeError:  # float32 is written into the module itself
            return found
        return found if still else ""


def _compared(
    module: nn.Module,
    program: Program,
    layout: FlatLayout,
    row: Tensor,
    x: Tensor,
    y: Tensor,
    backend: str,
) -> str:
    copied = _holding(module, layout, row)
    found = _training(copied, program, layout, row, x, y, backend)
    return found or _evaluation(copied, layout, row, x, backend)


def _moved(row: Tensor, layout: FlatLayout) -> Tensor:
    row, generator = row.clone(), torch.Generator().manual_seed(SEED)
    for view in layout.views(row, trained_only=True).values():
        noise = torch.randn(view.shape, generator=generator, dtype=torch.float64).to(view)
        size = float(view.square().mean().sqrt()) if view.numel() else 0.0
        view += noise * (0.05 * size or 0.05)
    return row


def _holding(module: nn.Module, layout: FlatLayout, row: Tensor) -> nn.Module:
    copied, views = copy_of(module), layout.views(row)
    tensors = {**dict(copied.named_parameters()), **dict(copied.named_buffers())}
    for slot in layout.slots:
        tensors[slot.name].data.copy_(views[slot.name])
    return copied


def _plain(module: nn.Module) -> dict[str, Any]:
    """Numbers and words among the attributes of all submodules."""
    return {
        f"{name}.{key}".lstrip("."): value
        for name, m in module.named_modules()
        for key, value in vars(m).items()
        if isinstance(value, (bool, int, float, str))
    }


def _forward(module: nn.Module, x: Tensor) -> tuple[Tensor, str]:
    """(logits, why no program can say what the module computes)."""
    before, attributes = states(), _plain(module)
    with Masks() as masks:
        logits = module(x.clone())
    if masks.autocast:
        return logits, "forward runs under autocast"
    if not same(before, states()):
        return logits, "forward draws random numbers outside of dropout layers"
    after = _plain(module)
    for name, value in after.items():
        if attributes.get(name) != value and value == value:
            return logits, f"forward changes its own attribute {name}"
    return logits, ""


def _training(
    copied: nn.Module,
    program: Program,
    layout: FlatLayout,
    row: Tensor,
    x: Tensor,
    y: Tensor,
    backend: str,
) -> str:
    logits, cause = _forward(copied.train(), x)
    if cause:
        return cause
    loss = F.cross_entropy(logits, y)
    if not loss.requires_grad:
        return "its logits have no gradient"
    want = _gradients(copied, layout, loss)
    tensors = dict(copied.named_buffers())
    statistics = [s.name for s in layout.slots if s.name in tensors and s not in layout.counters]
    carried = {name: tensors[name].clone() for name in statistics}
    again, _ = _forward(copied, x)
    if found := _apart("a second call's logits", again, logits):
        return found
    value, g, after = _step(program, layout, row, x, y, backend)
    if found := _apart("the training loss", value, loss):
        return found
    size = float(torch.stack([w.norm() for w in want.values()]).norm())
    for name, have in layout.views(g, trained_only=True).items():
        if found := _apart(f"the gradient of {name}", have, want[name], size):
            return found
    views = layout.views(after)
    parts = (_apart(f"{n} after a step", views[n], t) for n, t in carried.items())
    return next((part for part in parts if part), "")


def _gradients(module: nn.Module, layout: FlatLayout, loss: Tensor) -> dict[str, Tensor]:
    """Autograd's, by name of the trained slots."""
    named = dict(module.named_parameters())
    learns = {s.name: named[s.name] for s in layout.slots if s.trained}
    grads = torch.autograd.grad(loss, list(learns.values()), allow_unused=True)
    pairs = zip(learns.items(), grads, strict=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs}


def _step(
    program: Program, layout: FlatLayout, row: Tensor, x: Tensor, y: Tensor, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss [], gradient [>= trained], the row [S] after the pass) by the program, as in a run."""
    path = ProgramExecutor(program, layout, 1, len(x), x.device, backend)
    bank, g = row[None].clone(), layout.bank(1, x.device, full=False)
    losses = torch.zeros(1, dtype=layout.dtype, device=x.device)
    count = torch.full((1,), len(x), dtype=torch.int32, device=x.device)
    seeds = torch.full((1,), SEED, dtype=torch.int64, device=x.device)
    rows = torch.arange(len(x), device=x.device)[None]
    batch = path.batch(View(x, x.dtype, backend, {}), y, rows, count, seeds)
    batch = Minibatch(batch.x, batch.y, count, seeds)
    path.gradients(bank[:, : layout.trained], bank, batch, g, losses, False)
    return losses[0], g[0], bank[0]


def _evaluation(copied: nn.Module, layout: FlatLayout, row: Tensor, x: Tensor, backend: str) -> str:
    if choose(backend, row) != "native":
        return ""  # no program judges there
    program, _ = trace(copied, x, training=False)
    if program is None or len(program.shapes[program.output]) != 1:
        return ""  # the module itself is asked there
    if any(isinstance(record, Dropout) for record in program.records):
        return ""  # as it is where dropout draws in evaluation
    with torch.no_grad():
        tensors = {**dict(copied.named_parameters()), **dict(copied.named_buffers())}
        for slot in layout.slots:
            tensors[slot.name].copy_(layout.views(row)[slot.name])
        logits, cause = _forward(copied.eval(), x)
        if cause:
            return f"in evaluation {cause}"
        evaluator = ProgramEvaluator(program, layout, F.cross_entropy, x, backend, width=len(x))
        return _apart("logits in evaluation", evaluator.logits(row, x), logits)


def _apart(what: str, have: Tensor, want: Tensor, size: float = 0.0) -> str:
    """By how much two tensors differ, "" within tolerance or where the module is not finite."""
    have, want = have.detach().double(), want.detach()
    dtype, want = want.dtype, want.double()
    if not bool(want.isfinite().all()):
        return ""
    off, norm = float((have - want).norm()), float(want.norm())
    if off <= RELATIVE.get(dtype, 2e-2) * norm + ABSOLUTE.get(dtype, 1e-3) * (size or 1.0):
        return ""
    return f"{what} differs from the module's own by {off / (norm or 1):.1e} of its norm"
