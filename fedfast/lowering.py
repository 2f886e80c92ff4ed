"""What computes a run's gradients: a layer program, or else the module executor."""

from __future__ import annotations

import logging
from functools import cache

from torch import Tensor, nn

from .layout import FlatLayout
from .programs import Program, trace


def program_for(
    module: nn.Module, layout: FlatLayout, loss: object, x: Tensor, own_loss: str = ""
) -> tuple[Program | None, str]:
    """(program, "") or (None, why the module executor takes its place).

    x         `[2, ...]` samples
    own_loss  why the algorithm's gradients are not those of the run's loss alone, ""
    """
    if own_loss:
        return None, own_loss
    if loss != "cross_entropy":
        return None, "the loss is a callable"
    program, reason = trace(module, x)
    if program is None:
        return None, reason
    return _complete(program, layout)


def _complete(program: Program, layout: FlatLayout) -> tuple[Program | None, str]:
    """A parameter that no layer reads would never be written by a folded step."""
    read = {layout.aliases.get(name, name) for name in program.parameters | program.buffers}
    read |= program.counters.keys()
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
