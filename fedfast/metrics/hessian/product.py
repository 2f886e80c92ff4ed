"""Products `H v` of the Hessian of a mean loss, of K models at once.

    H_k = (1 / n_k) sum_i  d^2 loss(f(x_i; w_k), y_i) / dw^2        over model k's n_k samples

in evaluation mode: dropout keeps everything, batch normalisation takes running statistics, which
are constants, unless those of batches are asked for (`batch_statistics.py`). Where the model is a
layer program, products come from `program_product.py`; else from torch's double backward,
`module_product.py`. A model's product does not depend, by a bit, on how many other models there
are, on who they are, or on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._messages import format_value
from ...data import Samples
from ...layout import FlatLayout
from ...programs.program import Program
from ..accuracy import Loss
from .batch_statistics import check
from .module_product import ModuleProduct
from .program_product import MEMORY, ProgramProduct, program_of

MODULE_BATCH = 500  # samples


class HessianProduct(Protocol):
    """The Hessians of K models' mean losses, as functions of vectors.

    models   K
    layout   of rows; vectors have its dtype
    trained  `layout.trained`: elements of a row that are parameters or padding between them
    stride   `layout.stride`, S
    """

    models: int
    layout: FlatLayout
    trained: int
    stride: int

    def __call__(
        self, v: Tensor, *, out: Tensor | None = None, active: Sequence[bool] | None = None
    ) -> Tensor:
        """`H_k v_k` `[K, S]` of v `[K, S]`: zero in padding and beyond `trained`.

        out     `[K, S]`, receives them; new memory if None
        active  of each model, whether its product is wanted; other rows may hold anything finite
        What v holds in padding is not read. Raises ValueError/TypeError for another shape or dtype.
        """


def product_for(
    module: nn.Module,
    layout: FlatLayout,
    loss: Loss | str,
    rows: Tensor,
    samples: Samples | Sequence[Samples],
    *,
    batch: int | None = None,
    backend: str = "auto",
    memory: int = MEMORY,
    batch_statistics: int | None = None,
) -> HessianProduct:
    """Products with the Hessians of the models `rows` [K, S] on their samples.

    loss     "cross_entropy", or (outputs, targets) -> scalar mean over the batch
    samples  one for each model, or one that all models share
    batch    samples whose part of a product is computed at once, None: as many as suit the caches;
             sums over batches are float64
    backend  of the operations of layer programs
    memory   bytes, about, that may be kept of what products of the same models have in common
    batch_statistics  samples, in order, over whose batches norms take their statistics; the last
             batch may be smaller. None: norms take running statistics
    Raises ValueError/TypeError naming what is unfit.
    """
    own = samples_of_each(layout, rows, samples)
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise ValueError(f"batch: expected an integer >= 1 or None; got {format_value(batch)}")
    if batch_statistics is not None:
        check(module, own, batch_statistics)
        how = criterion_of(loss), rows, own, batch_statistics
        return ModuleProduct(module, layout, *how, by_batch=True)
    program = program_with(module, layout, loss, own)
    if program is not None:
        return ProgramProduct(program, layout, rows, own, batch, backend, memory)
    return ModuleProduct(module, layout, criterion_of(loss), rows, own, batch or MODULE_BATCH)


def program_with(
    module: nn.Module, layout: FlatLayout, loss: Loss | str, samples: Sequence[Samples]
) -> Program | None:
    """The layer program whose products are known with this loss on such samples, or None."""
    if criterion_of(loss) is not F.cross_entropy or samples[0].y.ndim != 1:
        return None
    few = samples[0].take(torch.arange(2) % len(samples[0])).inputs(layout.dtype)
    return program_of(module, layout, few)


def criterion_of(loss: Loss | str) -> Loss:
    """The loss as a function; ValueError for another name than "cross_entropy"."""
    if isinstance(loss, str) and loss != "cross_entropy":
        raise ValueError(f"loss: expected 'cross_entropy' or a callable; got {format_value(loss)}")
    return F.cross_entropy if isinstance(loss, str) else loss


def samples_of_each(
    layout: FlatLayout, rows: Tensor, samples: Samples | Sequence[Samples]
) -> list[Samples]:
    """The samples of each model; ValueError/TypeError where rows or samples are unfit."""
    if rows.ndim != 2 or rows.shape[0] < 1 or rows.shape[1] != layout.stride:
        raise ValueError(f"rows: expected [K, {layout.stride}]; got {list(rows.shape)}")
    if rows.dtype != layout.dtype:
        raise TypeError(f"rows: expected {layout.dtype}; got {rows.dtype}")
    own = [samples] * len(rows) if isinstance(samples, Samples) else list(samples)
    if len(own) != len(rows):
        raise ValueError(f"samples: expected one for each of {len(rows)} models; got {len(own)}")
    for k, s in enumerate(own):
        if len(s) == 0:
            raise ValueError(f"samples: expected at least one for each model; model {k} has none")
    return own
