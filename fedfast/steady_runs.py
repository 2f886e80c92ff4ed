"""Which runs repeat their rounds: see `SteadyRounds`."""

from __future__ import annotations

from .algorithms import Algorithm
from .algorithms._hook_checks import overrides
from .algorithms.hooks import Component
from .client_loop import LocalTrainer
from .design import Design
from .engine import Engine
from .kernels.schedule import available

# What a repeated round leaves out: hooks of an algorithm and its components, and its own methods.
HOOKS = ("begin", "after_step", "upload", "finish", "sums", "settle", "added")
OWN = ("rate", "starts")


def repeats(engine: Engine, design: Design) -> bool:
    """Whether rounds are drawn, on the CPU, and do nothing but train and take the mean."""
    drawn = design.schedule.drawing
    ours = drawn is not None and available() and design.data.order.device.type == "cpu"
    return (
        ours
        and design.ranks is None
        and not design.round_metrics
        and _plain(design.algorithm)
        and _stateless(engine)
        and _trains(engine.trainer)
    )


def _plain(algorithm: Algorithm) -> bool:
    """Whether its hooks do nothing."""
    parts = (algorithm, Algorithm), *((part, Component) for part in algorithm.components)
    hooks = any(overrides(part, hook, kind) for part, kind in parts for hook in HOOKS)
    own = any(overrides(algorithm, method, Algorithm) for method in OWN)
    wants = algorithm.drift.full_gradient or any(p.start_losses for p in algorithm.components)
    return not (hooks or own or wants or algorithm.server.whole or algorithm.server.rehearses)


def _stateless(engine: Engine) -> bool:
    """Whether the server has its model and the moments of its rule alone, and clients nothing."""
    server, hooks = engine.state, engine.hooks
    kept = server.rows or server.values or server.scalars or engine.clients.kinds()
    special = engine.sent is not None or engine.client_decay != 1.0 or engine.layout.counters
    whole = len(server.row) == engine.layout.trained
    return whole and not (kept or special or hooks.foreign or engine.models.wanted)


def _trains(trainer: LocalTrainer) -> bool:
    """Whether all steps are one call that reads nothing but batches."""
    fusions, drawn = trainer.fusions, trainer.executor.random or trainer.pipeline.augment
    planned = fusions.rounds and not (fusions.ascent or fusions.resident)
    at_once = planned and trainer.replay is None
    return at_once and not (drawn or trainer.update.corrects or trainer.live.m is not None)
