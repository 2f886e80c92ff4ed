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
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import product
from typing import Protocol, cast

import torch
from torch import Tensor

from ..batches import ChunkBatches
from ..executor import Fold, LocalStep, SamAscent
from ..input_pipeline import SampleSource
from ..kernels._args import Coefficient
from ..layout import FlatLayout
from .products import Linear
from .program import Program
from .records import Reshape

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


@dataclass(frozen=True)
class Shape:
    """One hidden layer, or two with `middle` units in the second; where tensors begin in a row.

    x [B, inputs] -> relu(x W1^T + b1) [-> relu(h Wm^T + bm)] -> h W2^T + b2 [B, classes]
    """

    inputs: int
    hidden: int
    classes: int
    w1: int
    b1: int
    w2: int
    b2: int
    middle: int = 0
    wm: int = 0
    bm: int = 0

    def given(self, width: int, norms: bool, heavy: bool) -> dict[str, object]:
        """Of batches of `width` samples; see `ResidentMLP.forms`."""
        return {**vars(self), "width": width, "norms": norms, "heavy": heavy}


def shape_of(program: Program, layout: FlatLayout) -> Shape | None:
    """Of a program that is such an MLP, with weights and biases of its own, all of them trained."""
    records = [record for record in program.records if not isinstance(record, Reshape)]
    layers = [record for record in records if isinstance(record, Linear)]
    if len(layers) != len(records) or not 2 <= len(layers) <= 3 or layout.dtype != torch.float32:
        return None
    places = {slot.name: slot.offset for slot in layout.slots}
    names = [name for layer in layers for name in layer.parameters]
    reads = [program.root(layer.inputs[0]) for layer in layers]
    chained = reads == [0, *(layer.output for layer in layers[:-1])]
    rectified = [layer.activation for layer in layers] == ["relu"] * (len(layers) - 1) + [None]
    if not (chained and rectified) or layout.aliases:
        return None
    if len(names) != 2 * len(layers) or set(names) != places.keys():
        return None
    inputs, hidden, *between, classes = map(program.elements, (0, *(v.output for v in layers)))
    w1, b1, *rest, w2, b2 = (places[name] for name in names)
    return Shape(inputs, hidden, classes, w1, b1, w2, b2, *between, *rest)


def resident_for(
    program: Program, layout: FlatLayout, width: int, device: torch.device, how: tuple[str, str]
) -> ResidentMLP | None:
    """None where the module, the device, the model or its size does not allow it.

    how  backend and precision: another backend that is named is what the user gets
    """
    module, shape = compiled(), shape_of(program, layout)
    if module is None or shape is None or module.device != device.type:
        return None
    if how != ("auto", "fp32"):
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
        each = product((False, True), repeat=2)
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
        # Memory on the device outlives the launch by the order of the stream alone.
        lines, samples = batches.to(w.device), _Samples.of(source)
        rows, count = lines.rows.contiguous(), lines.count.contiguous()
        offsets = batches.packing.offsets.to(w.device)
        numbers = [_column(c, w[:clients]) for c in (fold.alpha, fold.beta)]
        rho = _column(step.ascent.rho, w[:clients]) if isinstance(step.ascent, SamAscent) else None
        given = self.shape.given(self.width, *self._form(step, fold)) | {
            **_rows(fold, w),
            **samples.given(),
            "alpha": numbers[0].data_ptr(),
            "beta": numbers[1].data_ptr(),
            "rho": 0 if rho is None else rho.data_ptr(),
            "eps": step.ascent.eps if isinstance(step.ascent, SamAscent) else 0.0,
            "clip": fold.bound.norm if fold.bound else 0.0,
            "clip_eps": fold.bound.eps if fold.bound else 0.0,
            "momentum": fold.momentum,
            "nesterov": fold.nesterov,
            "clients": clients,
            "steps": len(batches.active),
            "rows": rows.data_ptr(),
            "count": count.data_ptr(),
            "offsets": offsets.data_ptr(),
            "total": total.data_ptr(),
            "total_stride": total.stride(0),
        }
        with torch.cuda.device(w.device) if w.is_cuda else nullcontext():
            self.module.train(given, _stream(w))
        return total


@dataclass(frozen=True)
class _Samples:
    """A source's samples, side by side in memory."""

    x: Tensor
    y: Tensor
    scale: Tensor | None
    shift: Tensor | None

    @classmethod
    def of(cls, source: SampleSource) -> _Samples:
        given = (source.transform.get(name) for name in ("scale", "shift"))
        scale, shift = (t if t is None else t.contiguous() for t in given)
        return cls(source.x.contiguous(), source.y.contiguous(), scale, shift)

    def given(self) -> dict[str, object]:
        inputs = self.x[0].numel()
        return {
            "x": self.x.data_ptr(),
            "bytes": self.scale is not None,
            "scale": 0 if self.scale is None else self.scale.data_ptr(),
            "shift": 0 if self.shift is None else self.shift.data_ptr(),
            "plane": inputs if self.scale is None else inputs // self.scale.numel(),
            "y": self.y.data_ptr(),
            "samples": len(self.x),
        }


def _rows(fold: Fold, w: Tensor) -> dict[str, object]:
    addend = fold.addend
    return {
        "base": fold.base.data_ptr(),
        "base_stride": fold.base.stride(0),
        "out": w.data_ptr(),
        "out_stride": w.stride(0),
        "addend": 0 if addend is None else addend.data_ptr(),
        "addend_stride": 0 if addend is None else addend.stride(0),
    }


def _column(number: Coefficient, rows: Tensor) -> Tensor:
    """A number of each client, [K]."""
    if isinstance(number, Tensor):
        return number[: len(rows)].to(rows).expand(len(rows)).contiguous()
    return rows.new_full((len(rows),), number)


def _stream(w: Tensor) -> int:
    return torch.cuda.current_stream(w.device).cuda_stream if w.is_cuda else 0
