"""What a run's local steps fuse; without any of it all give the same, but slower."""

from __future__ import annotations

from dataclasses import dataclass

from .algorithms import Algorithm
from .algorithms._hook_checks import depth, is_foreign, overrides
from .algorithms.optimizers import SAM, SCALES, Optimizer
from .executor import Capabilities
from .programs.cuda_graph import CudaRecorder, Recorder

# Hooks that are called between a client's first step and its last.
WITHIN = "ascend", *SCALES, "objective", "terms", "correct", "direction", "rate", "after_step"


@dataclass(frozen=True)
class Fusions:
    """What the steps of one run fuse.

    folds   the SGD step rides on the weight gradients
    sam     both passes of SAM are one call
    scaled  the second pass moves every tensor by a scale of its own
    norms   products write the squares that a clip needs
    rounds  nothing happens between the first step and the last: they are one call
    ascent  the optimizer's ascent is operations that a plan repeats
    resident  all steps of a client are one launch
    """

    folds: bool
    sam: bool
    scaled: bool
    norms: bool
    rounds: bool
    ascent: bool
    resident: bool = False


def fusions_for(algorithm: Algorithm, clip_norm: float | None, can: Capabilities) -> Fusions:
    """What the run's algorithm allows and its executor can do."""
    local, clips = algorithm.local, clip_norm is not None
    # Both passes in one leave `ahead` half written, which hooks of the user's may look at.
    hidden = not runs_user_code(algorithm)
    constant = algorithm.constant and hidden
    simple = constant and not local.momentum
    # A clip that acts on a term which moves with the model leaves no constant to be added.
    inside = clips and not algorithm.plain and getattr(algorithm.drift, "clip", "") == "whole"
    folds = simple and can.folds and (can.clips or not clips) and not inside
    sam = can.sam and hidden and is_plain_sam(local)
    recorded = can.plans and hidden and records_ascent(local) and not looks_at_rows(algorithm)
    # Only what nobody looks at between the two passes may be left out of them.
    own = any(overrides(local, name, Optimizer) for name in ("terms", "objective"))
    plain = local.layered and not local.keeps and not own
    alone = not algorithm.watched and not overrides(algorithm, "rate", Algorithm)
    rounds = can.plans and folds and alone and (sam or recorded or not local.ascends)
    form = clips or local.ascends, bool(local.momentum)
    bare = algorithm.plain or not clips  # what joins the gradient is no part of a norm there
    resident = form in can.resident and constant and alone and bare and (sam or not local.ascends)
    scaled, norms = can.sam and hidden and plain, clips and can.norms
    return Fusions(folds, sam, scaled, norms, rounds, recorded, resident)


def runs_user_code(algorithm: Algorithm) -> bool:
    """Whether code of the user's runs within a step and may read `g` and `ahead`, which fused
    steps leave half written."""
    within: list[tuple[object, str]] = [(part, "after_step") for part in algorithm.components]
    within += [(algorithm.local, "terms"), (algorithm.drift, "correct")]
    within += [(algorithm, hook) for hook in ("after_step", "direction", "rate")]
    return any(is_foreign(getattr(part, hook)) for part, hook in within)


def looks_at_rows(algorithm: Algorithm) -> bool:
    """Whether code of the user's runs around the local steps: it may read or change `ahead` and
    scratch rows, which recorded ascents fill themselves and in rows of threads, and sum them up."""
    around = ("begin", "upload", "finish", "sums")
    parts = algorithm, *algorithm.components
    return any(is_foreign(getattr(part, hook)) for part in parts for hook in around)


def is_plain_sam(local: Optimizer) -> bool:
    """Whether its ascent is SAM's and its descent along the gradient there alone."""
    if not isinstance(local, SAM) or local.keeps or not local.looks:
        return False
    # `terms` of SAM's that keep no first gradient are `g` alone; `runs_user_code` finds others.
    return not any(overrides(local, name, SAM) for name in ("ascend", "objective", *SCALES))


def records_ascent(local: Optimizer) -> bool:
    """Whether `Optimizer.recorded` stands for its other hooks, none of which is the user's."""
    if not overrides(local, "recorded", Optimizer) or overrides(local, "objective", Optimizer):
        return False
    hooks = ("begin", "ascend", "finish")
    older = all(depth(local, "recorded") <= depth(local, name) for name in hooks)
    return older and not any(is_foreign(getattr(local, name)) for name in (*hooks, "recorded"))


def recorder_for(algorithm: Algorithm, can: Capabilities) -> Recorder | None:
    """What records steps on CUDA; None where a step reads what is not at an address that stays."""
    return CudaRecorder() if can.graphs and not eager_because(algorithm) else None


def tuning_recorder(can: Capabilities) -> Recorder | None:
    """What records steps of fine-tuning, in which no hook is called."""
    return CudaRecorder() if can.graphs else None


def eager_because(algorithm: Algorithm) -> str:
    """Why local steps are not recorded on CUDA, or ""."""
    for part in (algorithm, *algorithm.components):
        for hook in WITHIN:
            found = getattr(part, hook, None)
            if found is not None and is_foreign(found):
                return f"{hook} of {type(part).__name__} is code of your own, which runs in a step"
    return ""
