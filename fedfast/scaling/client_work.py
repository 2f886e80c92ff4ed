"""What a client of a simulation has to compute and to move, for `work.Workload`."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import atomic
from ..history import Row
from .work import Workload, flops_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..cli.setting import Setting
    from ..simulation import Simulation


def workload(sim: Simulation, setting: Setting, row: Row, counted: Path) -> Workload:
    """Of the simulation's clients; row: a round of it; counted: see `counted_flops`."""
    design = sim._design
    algorithm, layout, options = design.algorithm, design.layout, design.options
    sizes = setting.clients.sizes
    batch = options.batch_size or int(sizes.max())
    steps = options.local_epochs * -(-sizes // batch)
    x = design.trial
    forward, backward = counted_flops(design.module, x, counted)
    kinds = len(algorithm.client_rows())
    return Workload(
        row=layout.trained * layout.dtype.itemsize,
        sample=x[0].numel() * x.element_size(),
        samples=row.samples / row.clients,
        steps=float(steps.mean()),
        passes=algorithm.gradients,
        kinds=kinds,
        operands=kinds + int(algorithm.local.momentum > 0),
        forward=forward,
        backward=backward,
        tested=0 if setting.data.test is None else len(setting.data.test),
    )


def counted_flops(module: nn.Module, x: Tensor, counted: Path) -> tuple[float, float]:
    """`flops_of`, whose imports take seconds: counted once for all rows of an algorithm."""
    with suppress(OSError, ValueError):
        forward, backward = json.loads(counted.read_text(encoding="ascii"))
        return float(forward), float(backward)
    found = flops_of(module, x)
    atomic(counted, lambda to: to.write_text(json.dumps(found), encoding="ascii"))
    return found
