"""Which shortcuts a run's local steps may take; without them all give the same, but slower."""

from __future__ import annotations

from typing import Any

import torch

from .algorithms import Algorithm
from .algorithms._hook_checks import is_foreign, overrides
from .algorithms.optimizers import ASAM, SAM, SGD, Optimizer
from .layout import FlatLayout
from .module_executor import ModuleExecutor
from .programs import ProgramExecutor
from .programs.cuda_graph import CudaRecorder, Recorder


def folds(
    algorithm: Algorithm,
    clip_norm: float | None,
    layout: FlatLayout,
    path: ModuleExecutor | ProgramExecutor,
) -> bool:
    """Whether a local step is `w - lr (g + decay w)` alone and can ride on the weight gradients."""
    simple = algorithm.plain and not algorithm.local.momentum and not shown(algorithm)
    if not (simple and isinstance(path, ProgramExecutor)):
        return False
    if clip_norm is not None and not path.clips:
        return False
    # A weight that several layers read must not move before the last of them has read it.
    return not layout.aliases and not path.program.reuses


def shown(algorithm: Algorithm) -> bool:
    """Whether code of the user's runs within a step and may read `g` and `ahead`, which fused
    steps leave half written."""
    within: list[tuple[Any, str]] = [(part, "after_step") for part in algorithm.components]
    within += [(algorithm.local, "terms"), (algorithm.drift, "correct")]
    within += [(algorithm, hook) for hook in ("after_step", "direction", "rate")]
    return any(is_foreign(getattr(part, hook)) for part, hook in within)


def is_plain_sam(local: Optimizer) -> bool:
    """Whether its ascent is SAM's and its descent along the gradient there alone."""
    if not isinstance(local, SAM) or local.keeps or not local.looks:
        return False
    # `terms` of SAM's that keep no first gradient are `g` alone; a user's own are `shown`.
    return not any(overrides(local, name, SAM) for name in ("ascend", "objective", "scales"))


def recorder_for(
    algorithm: Algorithm, path: ModuleExecutor | ProgramExecutor, device: torch.device
) -> Recorder | None:
    """Who records steps on this device; nobody where a step would read more than `Inputs`."""
    if device.type != "cuda" or not isinstance(path, ProgramExecutor):
        return None
    return CudaRecorder() if steady(algorithm) else None


def steady(algorithm: Algorithm) -> bool:
    """Whether a step knows nothing of the round but its model, batch and learning rate."""
    local = algorithm.local
    constant = isinstance(getattr(local, "rho", 0.0), (int, float))
    own = any(overrides(algorithm, method, Algorithm) for method in ("rate", "starts"))
    known = type(local) in (SGD, SAM, ASAM) and constant
    changed = any(overrides(local, name, type(local)) for name in ("ascend", "scales", "terms"))
    return algorithm.plain and known and not (own or changed or algorithm.watched)
