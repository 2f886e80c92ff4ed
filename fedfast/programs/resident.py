"""The resident MLP: all local steps of K clients in one launch of `fedfast._fedfast_cuda`.

A client's weights stay in the shared memory of a cluster of thread blocks: a round reads the model
sent and writes the client's model once (docs/gpu.md). For MLPs of one or two hidden layers (relu),
under the cross-entropy, in float32. The module is built where nvcc is; without it, and for other
models, steps run as ever.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from typing import Protocol, cast

import torch
from torch import Tensor

from ..batches import ChunkBatches
from ..executor import Fold, LocalStep, SamAscent
from ..input_pipeline import SampleSource
from ..layout import FlatLayout
from ..precisions import FLOAT32
from .program import Program
from .resident_launch import addresses, of_batches, of_rows, of_samples, of_steps
from .resident_shape import Shape, shape_of

MODULE = "fedfast._fedfast_cuda"
CAPABILITY = (9, 0)  # clusters of thread blocks


class Compiled(Protocol):
    """The compiled module. `given`: what csrc/cuda/bindings.cpp reads, tensors as addresses."""

    device: str

    def plan(self, given: Mapping[str, object]) -> dict[str, int] | None:
        """Blocks of a cluster, hidden units of each, samples of a tile, bytes of a block."""

    def clusters(self, given: Mapping[str, object]) -> int:
        """How many clients the device trains at once."""

    def train(self, given: Mapping[str, object], stream: int) -> None:
        """All local steps."""


@cache
def compiled() -> Compiled | None:
    """The module, None where it was not built."""
    try:
        return cast(Compiled, import_module(MODULE))
    except ImportError:
        return None


@cache
def refused(reason: str) -> None:
    """Warn that the module is there and cannot be used; of the same reason once a process."""
    logging.getLogger("fedfast").warning("no resident MLP: %s", reason)


def resident_for(
    program: Program, layout: FlatLayout, width: int, device: torch.device, how: tuple[str, str]
) -> ResidentMLP | None:
    """None where the module, the device, the model or its size does not allow it.

    how  backend and precision: another backend that is named is what the user gets, and rounding
         that is permitted what is fastest elsewhere
    """
    module, shape = compiled(), shape_of(program, layout) if program.head is None else None
    if module is None or shape is None or module.device != device.type:
        return None
    backend, precision = how
    if backend != "auto" or precision not in FLOAT32:
        return None
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < CAPABILITY:
        return None
    found = ResidentMLP(module, shape, width)
    return found if found.forms else None


class ResidentMLP:
    """Trains models of one shape in batches of `width`.

    forms  (norms, heavy) for which a cluster holds the model: gradients are measured, by SAM or a
           clip; every weight has a velocity
    """

    def __init__(self, module: Compiled, shape: Shape, width: int) -> None:
        self.module, self.shape, self.width = module, shape, width
        each = [(norms, heavy) for norms in (False, True) for heavy in (False, True)]
        self.forms = frozenset(form for form in each if self.at_once(form))

    def at_once(self, form: tuple[bool, bool]) -> int:
        """How many clients the device trains side by side; 0 where a cluster cannot hold one, or
        CUDA's runtime refuses, an old driver for instance."""
        given = self.shape.given(self.width, *form)
        try:
            return self.module.clusters(given) if self.module.plan(given) else 0
        except RuntimeError as error:
            refused(str(error))
            return 0

    def takes(self, step: LocalStep) -> bool:
        """Whether a launch does all that the steps do."""
        fold, more = step.fold, (step.objective, step.update, step.begin, step.end)
        if fold is None or any(part is not None for part in more):
            return False
        joined = fold.bound is not None and fold.addend is not None
        sam = step.ascent is None or isinstance(step.ascent, SamAscent)
        return sam and not joined and self._form(step, fold) in self.forms

    @staticmethod
    def _form(step: LocalStep, fold: Fold) -> tuple[bool, bool]:
        return step.ascent is not None or fold.bound is not None, bool(fold.momentum)

    def descend(
        self,
        step: LocalStep,
        w: Tensor,
        source: SampleSource,
        batches: ChunkBatches,
        backend: str = "auto",
    ) -> Tensor:
        """See `Executor.descend`; a row or label out of range makes the loss NaN.

        backend  of what writes the addend
        """
        fold, clients = step.fold, batches.active[0]
        assert fold is not None
        if step.correct is not None:
            step.correct.apply(backend)
        total = torch.zeros(2, len(w), dtype=torch.float64, device=w.device)
        given = {
            **self.shape.given(self.width, *self._form(step, fold)),
            **of_rows(fold, w),
            **of_steps(step, fold, w[:clients]),
            **of_samples(source),
            **of_batches(batches, total),
        }
        with torch.cuda.device(w.device) if w.is_cuda else nullcontext():
            self.module.train(addresses(given), _stream(w))
        return total


def _stream(w: Tensor) -> int:
    return torch.cuda.current_stream(w.device).cuda_stream if w.is_cuda else 0
