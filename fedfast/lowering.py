"""What computes a run's gradients: a layer program, or else the module executor."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache

from torch import Tensor, nn

from .algorithms.objective import Sampling
from .copies import hooked
from .layout import FlatLayout
from .models.stochastic import Stochastic
from .programs import Program, trace
from .programs.program import SampledHead


def program_for(
    module: nn.Module,
    layout: FlatLayout,
    loss: object,
    x: Tensor,
    own_loss: str = "",
    sampling: Sampling | None = None,
) -> tuple[Program | None, str]:
    """(program, "") or (None, why the module executor takes its place).

    x         `[2, ...]` samples
    own_loss  why the algorithm's gradients are not those of the run's loss alone, ""
    sampling  how the algorithm samples between the module's encoder and head, where it does
    """
    if own_loss:
        return None, own_loss
    if loss != "cross_entropy":
        return None, "the loss is a callable"
    program, reason = trace(module, x) if sampling is None else _headed(module, x, sampling)
    if program is None:
        return None, reason
    return _complete(program, layout)


class Encoder(nn.Module):
    """The encoder of a module, under its name there."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Means and spreads. [B, 2 D]"""
        found: Tensor = self.encoder(x)
        return found


def _headed(module: nn.Module, x: Tensor, sampling: Sampling) -> tuple[Program | None, str]:
    """The program of an encoder, with its head."""
    encoder, head = getattr(module, "encoder", None), getattr(module, "head", None)
    if not isinstance(encoder, nn.Module) or type(head) is not nn.Linear or head.bias is None:
        return None, "it has no encoder and linear head"
    if cause := hooked(module) or _of_its_own(module):
        return None, cause
    program, reason = trace(Encoder(encoder), x)
    if program is None or program.shapes[program.output] != (2 * head.in_features,):
        return None, reason or "its encoder does not give a mean and a spread for each input"
    if program.root(program.output) not in program.learning:
        return None, "its encoder is not trained"
    sizes = head.in_features, head.out_features
    return replace(program, head=SampledHead("head.weight", "head.bias", *sizes, sampling)), ""


def _of_its_own(module: nn.Module) -> str:
    """What the module does otherwise than `Stochastic`, which the program of its encoder misses."""
    kind, held = type(module), vars(module)
    if kind.forward is not Stochastic.forward or "forward" in held:
        return "its forward is not that of fedfast.models.Stochastic"
    if kind.train is not nn.Module.train or "train" in held:
        return "its train sets modes of its own"
    return ""


def _complete(program: Program, layout: FlatLayout) -> tuple[Program | None, str]:
    """A parameter that no layer reads would never be written by a folded step."""
    read = {layout.aliases.get(name, name) for name in program.parameters | program.buffers}
    read |= program.counters.keys()
    if program.head is not None:
        read |= {program.head.weight, program.head.bias}
    unread = [slot.name for slot in layout.slots if slot.name not in read]
    if unread:
        return None, f"no layer reads {unread[0]}"
    moving = sorted(program.constants.keys() - layout.constants)
    if moving:
        return None, f"{moving[0]} changes in training"
    if len(program.shapes[program.output]) != 1:
        return None, "its output is not [batch, classes]"
    return program, ""


@cache
def warn_once(reason: str) -> None:
    """Warn that a run takes the module executor; of the same reason once a process."""
    logging.getLogger("fedfast").warning("module executor, slower: %s", reason)
