"""Mini-batches out of packed tables, for steps that a CUDA graph repeats.

    fetch:    x[k, b] = samples[rows[lines[k], b]], looked at as by `gather`; y, count, seeds too
    advance:  total[0, k] += losses[k] count[k];  total[1, k] += losses[k];
              lines[k] += K;  step += 1;  places[k] += n;  now[j, k] = tables[j][places[k]]

A step of K clients lies in K lines of the tables, the clients in their order, so that a client's
next line is K further; numbers that differ from step to step lie n further, a line for each step.
Nothing in either depends on the step but what lies in memory. Backends with `Capabilities.graphs`
do each in one launch; for others it is `gather` and operations of torch's.

Bytes of `fetch`: those of `gather` for inputs and for labels. `advance`: 60 a client; 16 and two
numbers more for every j.
Deterministic: element-wise; sums of losses in float64, whose products are exact there.
"""

from __future__ import annotations

from torch import Tensor

from . import registry
from .gather import served
from .packing import ByStep as ByStep
from .packing import Into as Into
from .packing import Packed as Packed
from .packing import Tally as Tally
from .packing import Tones as Tones
from .reference import packed as plain
from .reference.packed import add_losses as add_losses
from .triton import packed as fused


def fetch(
    samples: Tensor,
    labels: Tensor,
    packed: Packed,
    into: Into,
    tones: Tones,
    backend: str = "auto",
) -> None:
    """Each client's next mini-batch.

    samples  [N, ...] and labels [N], contiguous
    Raises as `gather` does; lines out of range are the caller's to avoid.
    """
    if registry.capabilities(backend, served(tones.scale, into.x)).graphs:
        fused.fetch(samples, labels, packed, into, tones)
    else:
        plain.fetch(samples, labels, packed, into, tones, backend)


def advance(tally: Tally, by_step: ByStep | None = None, backend: str = "auto") -> None:
    """The step's losses added up, and on to the next step.

    by_step  numbers whose next ones the next step reads; behind the last step they stay
    """
    if registry.capabilities(backend, tally.losses).graphs:
        fused.advance(tally, by_step)
    else:
        plain.advance(tally, by_step)
