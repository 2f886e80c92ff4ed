"""The user's own module as the reference of a verification: its logits and autograd's gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..copies import copy_of
from ..layout import FlatLayout
from ..random_state import same, states
from .dropout_masks import SEED, Masks


def moved(row: Tensor, layout: FlatLayout) -> Tensor:
    """Weights a little from where they start: layers that start at zero hide nothing then. [S]"""
    row, generator = row.clone(), torch.Generator().manual_seed(SEED)
    for view in layout.views(row, trained_only=True).values():
        noise = torch.randn(view.shape, generator=generator, dtype=torch.float64).to(view)
        size = float(view.square().mean().sqrt()) if view.numel() else 0.0
        view += noise * (0.05 * size or 0.05)
    return row


def holding(module: nn.Module, layout: FlatLayout, row: Tensor) -> nn.Module:
    """A copy of the module with the tensors of `row` [S]."""
    copied = copy_of(module)
    layout.write(row, copied)
    return copied


def _attributes(module: nn.Module) -> dict[str, object]:
    """Numbers and words among the attributes of all submodules."""
    return {
        f"{name}.{key}".lstrip("."): value
        for name, m in module.named_modules()
        for key, value in vars(m).items()
        if isinstance(value, (bool, int, float, str))
    }


def forward(module: nn.Module, x: Tensor) -> tuple[Tensor, str]:
    """(logits, why no program can compute what the module does, "" for nothing)."""
    before, attributes = states(), _attributes(module)
    with Masks() as masks:
        logits = module(x.clone())
    if masks.autocast:
        return logits, "forward runs under autocast"
    if not same(before, states()):
        return logits, "forward draws random numbers outside of dropout layers"
    after = _attributes(module)
    for name, value in after.items():
        if attributes.get(name) != value and value == value:
            return logits, f"forward changes its own attribute {name}"
    return logits, ""


def gradients(module: nn.Module, layout: FlatLayout, loss: Tensor) -> dict[str, Tensor]:
    """Autograd's, by name of the trained slots."""
    named = dict(module.named_parameters())
    learns = {s.name: named[s.name] for s in layout.slots if s.trained}
    grads = torch.autograd.grad(loss, list(learns.values()), allow_unused=True)
    pairs = zip(learns.items(), grads, strict=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs}


def size_of_all(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """The norm of the loss's gradient by all parameters of a copied module, frozen ones too.

    0 for a module that itself writes into a frozen parameter, which then cannot have a gradient.
    """
    learns = [p for p in module.parameters() if p.is_floating_point()]
    for parameter in learns:
        parameter.requires_grad_(True)
    try:
        loss = F.cross_entropy(forward(module, x)[0], y)
        found = torch.autograd.grad(loss, learns, allow_unused=True)
    except RuntimeError:
        return 0.0
    return float(torch.stack([g.norm().double() for g in found if g is not None]).norm())
