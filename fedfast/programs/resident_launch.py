"""What a launch of the resident MLP is given, by the names that csrc/cuda/bindings.cpp reads."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..batches import ChunkBatches
from ..executor import Fold, LocalStep, SamAscent
from ..input_pipeline import SampleSource
from ..kernels._args import Coefficient
from ..transfers import sent_to

Given = dict[str, object]  # numbers, tensors, and None for tensors that are not there


def addresses(given: Mapping[str, object]) -> Given:
    """Tensors as addresses: they must outlive the call that takes these."""
    found = {name: v.data_ptr() if isinstance(v, Tensor) else v for name, v in given.items()}
    return {name: 0 if v is None else v for name, v in found.items()}


def of_rows(fold: Fold, w: Tensor) -> Given:
    """Where models come from and go to, and what joins their gradients."""
    given: Given = {"base": fold.base, "out": w, "addend": fold.addend}
    strides = {f"{name}_stride": t.stride(0) for name, t in given.items() if isinstance(t, Tensor)}
    return {"addend_stride": 0} | given | strides


def of_steps(step: LocalStep, fold: Fold, rows: Tensor) -> Given:
    """How the models `rows` [K, ...] descend."""
    sam, bound = step.ascent if isinstance(step.ascent, SamAscent) else None, fold.bound
    return {
        "alpha": _column(fold.alpha, rows),
        "beta": _column(fold.beta, rows),
        "rho": None if sam is None else _column(sam.rho, rows),
        "eps": 0.0 if sam is None else sam.eps,
        "clip": 0.0 if bound is None else bound.norm,
        "clip_eps": 0.0 if bound is None else bound.eps,
        "momentum": fold.momentum,
        "nesterov": fold.nesterov,
    }


def of_samples(source: SampleSource) -> Given:
    """All samples, side by side in memory, and how bytes are read."""
    scale, shift = (source.transform.get(name) for name in ("scale", "shift"))
    inputs = source.x[0].numel()
    return {
        "x": source.x.contiguous(),
        "y": source.y.contiguous(),
        "samples": len(source.x),
        "bytes": scale is not None,
        "scale": None if scale is None else scale.contiguous(),
        "shift": None if shift is None else shift.contiguous(),
        "plane": inputs if scale is None else inputs // scale.numel(),
    }


def of_batches(batches: ChunkBatches, total: Tensor) -> Given:
    """Which samples each step sees, and where losses go [2, K]; on the device of `total`."""
    on = batches.to(total.device)
    return {
        "clients": batches.active[0],
        "steps": len(batches.active),
        "rows": on.rows.contiguous(),
        "count": on.count.contiguous(),
        "offsets": sent_to(batches.packing.offsets, total.device),
        "total": total,
        "total_stride": total.stride(0),
    }


def _column(number: Coefficient, rows: Tensor) -> Tensor:
    """A number of each client, [K]."""
    if isinstance(number, Tensor):
        return number[: len(rows)].to(rows).expand(len(rows)).contiguous()
    return rows.new_full((len(rows),), number)
