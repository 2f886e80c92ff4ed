"""SAM's two passes over a layer program, dense layers without a perturbed copy of their weights.

    g = gradient at w;  s = rho / (|g| + eps);  g' = gradient at w + s g

The gradient of a dense layer is a product of two thin factors, `dW = d^T x`: the first pass keeps x
and d, the norm and everything the second pass wants of `W + s dW` come from them (see
`kernels.lowrank`). Such a layer's gradient and perturbed weights are never written. All other
layers take the plain way: gradient into g, `ahead = w + s g`. The norm is over all of them.
Where each tensor has a scale of its own (FedFSA's radii), biases take the plain way too.
Source: Foret et al. 2021 for SAM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from .. import kernels
from ..executor import SamAscent
from ..kernels.choices import precision_of
from ..layout import FlatLayout
from .cuda_costs import saved_by_factors
from .grad_norms import GradNorms, SpanNorms
from .products import Linear
from .program import BufferSpec, Program
from .records import Factors, Record
from .sam_layers import FirstPass, SecondPass

# Of a CPU, measured with `bench/bench_lowrank.py`, in multiply-adds of a large product: what one
# costs in a product of a batch with itself, and what it costs to read or write a number of a
# weight's size.
GRAM_COST = 1.3
NUMBER_COST = 5
PASSES = 5  # over the weights: gradient written, read for the norm, read, w read, ahead written


def is_thin(
    batch: int,
    inputs: int,
    outputs: int,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    samples: bool,
) -> bool:
    """Whether a dense layer's gradient is better left as factors, by shapes and precision alone.

    device   its type: "cuda" has a threshold of its own, see `cuda_costs`
    precision  of products there, or "fp64"
    samples  whether it reads the samples, the same in both passes: no product with its weights then
    The multiply-adds that factors take are weighed against those, and the passes over weights, that
    they save.
    """
    if device == "cuda":
        return saved_by_factors(batch, inputs, outputs, samples, precision) > 0
    grams = batch * batch * (inputs + outputs)
    takes = grams + (batch * batch * outputs if samples else 2 * grams)
    weights = inputs * outputs
    saves = (2 if samples else 1) * batch * weights + PASSES * NUMBER_COST * weights
    return GRAM_COST * takes < saves


class SamBuffers:
    """The buffers of both passes, and which layers are kept as factors."""

    def __init__(
        self,
        program: Program,
        layout: FlatLayout,
        spec: BufferSpec,
        precision: str = "fp32",
        norms: bool = False,
        scaled: bool = False,
    ) -> None:
        """
        precision  of float32 products
        norms   whether products write the squares of their gradients
        scaled  whether each tensor has a scale of its own
        """
        self.scaled, width = scaled, spec.width
        # Layers that share a weight add their gradients up: no one layer's factors are its own.
        where = spec.device.type, precision_of(precision, layout.dtype)
        thin = [] if layout.ties else thin_layers(program, width, *where, scaled)
        self.thin = {record.output: i for i, record in enumerate(thin)}
        self.first = tuple(_replaced(r, FirstPass, self.thin) for r in program.records)
        # What leads to no parameter is the same in both passes, and still there.
        again = [r for r in program.records if r.output in program.learning]
        self.second = tuple(_replaced(r, SecondPass, self.thin) for r in again)
        slots = [slot for slot in layout.slots if slot.trained]
        held = {name for r in thin for name in ((r.weight,) if scaled else r.parameters)}
        self.moved = {slot.name for slot in slots} - held
        self.others = SpanNorms(layout, held, spec)
        self.grad_norms = GradNorms(program, layout, spec, held) if norms else None

        def buffer(*shape: int, dtype: torch.dtype = layout.dtype) -> Tensor:
            return spec.zeros(*shape, dtype=dtype)

        copied = _copied_values(program, thin)
        self.values = {v: buffer(width, *program.shapes[v]) for v in copied}
        self.gradients = {r.output: buffer(width, *program.shapes[r.output]) for r in thin}
        self.gram = {r.output: buffer(width, width) for r in thin}
        reading = {r.output for r in thin if program.root(r.inputs[0]) == 0}
        self.samples = set() if scaled else reading  # its bias may differ: nothing is known
        self.before = {
            r.output: buffer(width, *program.shapes[r.output])
            for r in thin
            if r.output in self.samples and r.activation
        }
        self.squares = buffer(len(thin), dtype=torch.float64)
        self.losses = buffer()
        # Tensors' scales lie one after another, or all are one.
        self.scales = buffer(len(slots) if scaled else 1).T.contiguous()
        own = {slot.name: i for i, slot in enumerate(slots)} if scaled else {}
        self.scale_of = {r.output: own.get(r.weight, 0) for r in thin}
        self.parts = [(*span, 0) for span in self.others.spans]
        if scaled:
            self.parts = [(s.offset, s.stop, own[s.name]) for s in slots if s.name in self.moved]
        self.biased = {r.output for r in thin if r.bias in r.parameters}
        self.unit = buffer(width if scaled else 0, 1).fill_(1)

    def factors(self, clients: int, v: int, x: Tensor, out: Tensor, d: Tensor) -> Factors:
        """Of the layer whose output is v; x, out and d as the first pass leaves them."""
        before = out if v in self.samples else None
        if v in self.before:
            before = self.before[v][:clients]
        squares = self.squares[:clients, self.thin[v]]
        scale, biased = self.scales[self.scale_of[v], :clients], v in self.biased
        ones = float(biased and not self.scaled)
        unit = self.unit[:clients] if biased and self.scaled else None
        return Factors(x, d, self.gram[v][:clients], before, squares, scale, ones, unit)

    def measure(self, g: Tensor, backend: str) -> list[Tensor]:
        """Tensors `[K, n]` float64 whose sum over all n is |g|^2. g `[K, >= trained]`"""
        squares = [self.squares[: g.shape[0]]]
        if self.grad_norms is not None:
            squares.append(self.grad_norms.gathered(g, backend))
        elif self.others.spans:
            squares.append(self.others.measure(g, backend))
        return squares

    def reach(self, g: Tensor, ascent: SamAscent, backend: str) -> None:
        """`s = rho / (|g| + eps)`, for all tensors."""
        squares, scale = self.measure(g, backend), self.scales[0, : g.shape[0]]
        rho, eps, radii = ascent.rho, ascent.eps, ascent.radii
        if not isinstance(rho, Tensor):
            kernels.reach(squares, rho, eps, radii=radii, out=scale, backend=backend)
            return
        kernels.reach(squares, 1.0, eps, out=scale, backend=backend)
        column = scale[:, None]
        kernels.mix(column, column, rho, 0.0, out=column, backend=backend)

    def move(self, w: Tensor, g: Tensor, ahead: Tensor, backend: str) -> None:
        """`ahead = w + s g` where gradients were written. All `[K, >= trained]`."""
        for a, b, i in self.parts:
            scale, to = self.scales[i, : g.shape[0]], ahead[:, a:b]
            kernels.mix(w[:, a:b], g[:, a:b], b=scale, out=to, backend=backend)


def thin_layers(
    program: Program, width: int, device: str, precision: str, scaled: bool = False
) -> list[Linear]:
    """The dense layers to be kept as factors; none where layers share weights.

    device, precision, scaled   as of `is_thin` and `SamBuffers`
    """
    if program.reuses:
        return []
    found, size = [], program.elements
    for record in program.records:
        if isinstance(record, Linear) and record.weight in record.parameters:
            v, samples = record.inputs[0], program.root(record.inputs[0]) == 0 and not scaled
            sides = size(v), size(record.output)
            if is_thin(width, *sides, device, precision, samples=samples):
                found.append(record)
    return found


def elements_per_client(program: Program, width: int, device: str, precision: str) -> int:
    """Numbers that SAM's second pass keeps beside the first's, for one client; as `is_thin`."""
    thin = thin_layers(program, width, device, precision)
    copied = program.elements(*_copied_values(program, thin))
    outputs = program.elements(*(record.output for record in thin))
    return width * (copied + 2 * outputs + width * len(thin))


def _copied_values(program: Program, thin: Sequence[Linear]) -> list[int]:
    """Values that the second pass must not overwrite: the factors x, and `before` where it is y."""
    roots = {program.root(record.inputs[0]) for record in thin}
    plain = {r.output for r in thin if r.activation is None and program.root(r.inputs[0]) == 0}
    return sorted((roots & program.learning) | plain)


def _replaced(record: Record, kind: type[Linear], thin: Mapping[int, int]) -> Record:
    if record.output not in thin:
        return record
    return kind(**{f.name: getattr(record, f.name) for f in fields(record)})
