"""The slices: random directions scaled filter by filter, lines and planes through models.

Sources: Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 4 (directions);
Garipov et al. 2018, "Loss Surfaces, Mode Connectivity", section 5 (planes through three models).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .._messages import format_value
from ..layout import FlatLayout
from ..torch_settings import torch_threads
from .slices import Slice

PARALLEL = 1e-6  # of a difference's length: what is left of it beside another is rounding


def filter_normalised(layout: FlatLayout, row: Tensor, seed: int, number: int = 0) -> Tensor:
    """A random direction `[S]` with every filter as long as the model's.

        d_f <- d_f / |d_f| |w_f|,    d ~ N(0, 1)

    A filter is what makes one output: `weight[o]` of a convolution or a linear layer, one row of an
    embedding. Biases and the scales and shifts of norms (all that has one dimension) stay: zero
    here, as in the paper's code with `ignore="biasbn"`. Running statistics stay too.

    row     `[S]`, the model
    number  which of the directions of this seed
    """
    generator = torch.Generator().manual_seed((seed << 8) + number)
    direction = torch.zeros_like(row)
    weights, found = layout.views(row), layout.views(direction)
    for slot in layout.slots:
        if not slot.trained:
            continue
        drawn = torch.randn(slot.shape, generator=generator, dtype=torch.float64)
        if len(slot.shape) > 1:
            d, w = drawn.flatten(1), weights[slot.name].double().cpu().flatten(1)
            d *= w.norm(dim=1, keepdim=True) / d.norm(dim=1, keepdim=True)
            found[slot.name].copy_(d.view(slot.shape))
    return direction


def random_plane(
    layout: FlatLayout,
    row: Tensor,
    dimensions: int = 2,
    seed: int = 0,
    marks: Mapping[str, Tensor] | None = None,
) -> Slice:
    """The slice around a model along random directions; 1 is the length of each filter.

    row    `[S]`, at 0
    marks  name -> row of further models, marked where they project to (least squares)
    """
    _check_dimensions(dimensions)
    axes = torch.stack([filter_normalised(layout, row, seed, n) for n in range(dimensions)])
    shown = {"origin": row} if marks is None else marks
    at = {name: _projected(layout, other - row, axes) for name, other in shown.items()}
    return Slice(layout, row, axes, "filter norms", at)


def line_between(layout: FlatLayout, models: Mapping[str, Tensor]) -> Slice:
    """The line from the first model, at 0, to the second, at 1. models: name -> row `[S]`."""
    (first, start), (second, end) = _so_many(models, 2)
    axis = (end - start)[None]
    if not _length(layout, axis[0]):
        raise ValueError(f"models: expected two that differ; {first} and {second} are the same")
    return Slice(layout, start, axis, "share of the way", {first: (0.0,), second: (1.0,)})


def plane_through(layout: FlatLayout, models: Mapping[str, Tensor]) -> Slice:
    """The plane through three models: the first at (0, 0), the second on the first axis.

        u = (w1 - w0) / |w1 - w0|,    v = (w2 - w0 - <w2 - w0, u> u) / |...|

    Lengths and products are of trained parameters, coordinates are Euclidean distances. Raises
    ValueError where the models lie on one line.
    """
    (first, origin), (second, one), (third, two) = _so_many(models, 3)
    first_step, second_step = (t.double() - origin.double() for t in (one, two))
    across = _length(layout, first_step)
    u = first_step / across if across else first_step
    along = _product(layout, second_step, u)
    rest = second_step - along * u
    up = _length(layout, rest)
    if not across or up <= PARALLEL * _length(layout, second_step):
        raise ValueError(f"models: {first}, {second} and {third} lie on one line; see line_between")
    axes = torch.stack([u, rest / up]).to(origin.dtype)
    marks = {first: (0.0, 0.0), second: (across, 0.0), third: (along, up)}
    return Slice(layout, origin, axes, "Euclidean distance", marks)


def _so_many(models: Mapping[str, Tensor], number: int) -> list[tuple[str, Tensor]]:
    if len(models) != number:
        raise ValueError(f"models: expected {number}; got {format_value(list(models))}")
    for name, row in models.items():
        if not row.isfinite().all():
            raise ValueError(f"models: expected finite ones; {name} is not")
    return list(models.items())


def _check_dimensions(dimensions: int) -> None:
    if dimensions not in (1, 2):
        raise ValueError(f"dimensions: expected 1 or 2; got {format_value(dimensions)}")


def _product(layout: FlatLayout, x: Tensor, y: Tensor) -> float:
    with torch_threads(1):  # the order of a sum may depend on how many threads share it
        return float(x[: layout.trained].double() @ y[: layout.trained].double())


def _length(layout: FlatLayout, x: Tensor) -> float:
    return _product(layout, x, x) ** 0.5


def _projected(layout: FlatLayout, step: Tensor, axes: Tensor) -> tuple[float, ...]:
    """The coordinates of the point of the slice nearest to origin + step; nan if that is nowhere.

    Of several (directions that are 0 or parallel, of a model whose weights are 0) the smallest.
    """
    inner, far = axes[:, : layout.trained].double().cpu(), step[: layout.trained].double().cpu()
    if not (inner.isfinite().all() and far.isfinite().all()):
        return (math.nan,) * len(axes)
    with torch_threads(1):
        gram = inner @ inner.T
        found = torch.linalg.pinv(gram, hermitian=True) @ (inner @ far)
    return tuple(found.tolist())
