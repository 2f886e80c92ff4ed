"""What a trial step finds out about a user's module, before any training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .constants import cast, changed, snapshot
from .copies import copy_of
from .random_state import kept_random_state, restore, same, states

WORTH_A_THREAD = 4e-3  # seconds of a client's step, above which threads gain more than they cost


@dataclass(frozen=True)
class Traits:
    """What a trial step found: the outputs, whether random numbers were drawn, its seconds.

    moving  names of the buffers and frozen parameters that it changed, and of running statistics
    """

    classes: int
    random: bool
    seconds: float
    moving: frozenset[str]


def workers_for(traits: Traits, threads: int) -> int:
    """Threads for clients side by side, each with copies of the module to train and to evaluate.

    Short steps are all interpreter, which serves one thread at a time; random numbers come from one
    global generator. Which thread computes a client never changes its result.
    """
    return 1 if traits.random or traits.seconds < WORTH_A_THREAD else threads


def inspect_model(module: nn.Module, x: Tensor) -> Traits:
    """One forward and backward pass over `x` [n, ...] on a copy of the module.

    Raises ValueError if the module cannot take the data or does not answer with `[n, classes]`.
    """
    dtype = x.dtype if x.is_floating_point() else None  # of tokens the module's does not follow
    trial = cast(copy_of(module), x.device, dtype).train()
    before, still = states(), snapshot(trial)
    begin = time.perf_counter()
    with refused(x), torch.enable_grad():
        logits = trial(x.clone())  # forward may write into its input
    with refused(x, " in evaluation mode"), torch.no_grad():
        trial.eval()(x.clone())
    trial.train()
    drew = not same(before, states())
    restore(before)
    if not isinstance(logits, Tensor) or logits.ndim == 0 or len(logits) != len(x):
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"model: expected logits [{len(x)}, classes]; got {found}")
    logits.sum().backward()
    seconds = time.perf_counter() - begin
    classes = logits[0].numel() if logits.ndim == 1 else logits.shape[1]
    return Traits(classes, drew, seconds, changed(trial, still))


@contextmanager
def refused(x: Tensor, mode: str = "") -> Iterator[None]:
    """What a module raises on `x` as a ValueError that names it."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise  # says nothing about the model
    except Exception as error:  # the user's own code may raise anything
        said = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"model: it cannot take data of shape {list(x.shape)}{mode} ({said})"
        ) from error


def single_sample_trouble(module: nn.Module, x: Tensor) -> str:
    """Why the module cannot be trained on one sample, "" where it can. x `[1, ...]`

    BatchNorm over one value per channel has no variance; over a map of more than one pixel it has.
    """
    dtype = x.dtype if x.is_floating_point() else None
    trial = cast(copy_of(module), x.device, dtype).train()
    try:
        with kept_random_state(), torch.no_grad():
            logits = trial(x)
    except (MemoryError, torch.OutOfMemoryError):
        raise  # says nothing about the model
    except Exception as error:  # the user's own code may raise anything
        return f"{type(error).__name__}: {error}"
    if not isinstance(logits, Tensor) or logits.shape[:1] != x.shape[:1]:
        return f"it answers with {getattr(logits, 'shape', type(logits).__name__)}"
    return ""
