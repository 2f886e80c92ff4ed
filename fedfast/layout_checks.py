"""What a row cannot hold, refused with the name of the tensor."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_tensors(
    module: nn.Module, named: Mapping[str, Tensor], inside: Mapping[str, Tensor], whole: bool
) -> None:
    """whole: every float is in the row, so that every tensor is checked."""
    parameters = dict(module.named_parameters())
    learns = {name for name, p in parameters.items() if p.requires_grad}
    for name, t in named.items():
        if nn.parameter.is_lazy(t) or t.is_meta:
            raise ValueError(
                f"module: {name} has no values yet; run one batch through a lazy module first"
            )
        if not (whole or name in inside):
            continue
        if t.is_complex():
            raise ValueError(f"module: {name} is {t.dtype}; a row holds real numbers")
        if name in inside and t.is_floating_point() and t.dtype not in FLOATS:
            raise ValueError(f"module: {name} is {t.dtype}; a row holds 16-, 32- or 64-bit floats")
        if name in parameters and name not in inside:
            raise ValueError(f"module: parameter {name} is {t.dtype}; only floats can be trained")
        if not whole and name not in learns and not bool(t.isfinite().all()):
            raise ValueError(
                f"model: buffer {name} changes in training, so that it is averaged, but it starts "
                "with inf or NaN; give it finite values first, for instance by one forward pass "
                "of the model in training mode"
            )
    _check_overlap(inside)


def _check_overlap(tensors: Mapping[str, Tensor]) -> None:
    """Two tensors on the same memory would move together in the module and apart in the row."""
    spans = sorted(
        (t.data_ptr(), t.data_ptr() + t.element_size() * _reach(t), name)
        for name, t in tensors.items()
        if t.numel()
    )
    for (_, stop, left), (start, _, right) in zip(spans, spans[1:], strict=False):
        if start < stop:
            raise ValueError(
                f"module: {left} and {right} share memory without being the same tensor; "
                "tie them by assigning one Parameter to both names"
            )


def _reach(t: Tensor) -> int:
    """Elements from the first to one past the last, whatever the strides."""
    return 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
