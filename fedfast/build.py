"""From a design to components that run: memory plan -> executor -> evaluator -> engine.

The only place that calls the constructors of executors, evaluators and the engine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from . import memory as memories
from .client_loop import LocalSettings, LocalTrainer
from .design import Design
from .engine import Engine, EngineSettings
from .input_pipeline import InputPipeline
from .lowering import warn_once
from .memory import Halving, MemoryPlan
from .model_inspection import workers_for
from .module_executor import ModuleExecutor
from .personalization import Evaluator, Personal
from .programs import ProgramExecutor, bytes_per_client
from .programs.evaluator import evaluator_bytes, evaluator_for
from .programs.verify import misevaluated


@dataclass(frozen=True)
class Components:
    """What a simulation is made of: its round loop and its checkpoints work on these.

    executor   of the module: that of the rounds where there is no program
    evaluator  made when it is first needed
    """

    design: Design
    memory: MemoryPlan
    executor: ModuleExecutor
    evaluator: Callable[[], Evaluator]
    engine: Engine
    personal: Personal


def build(design: Design) -> Components:
    """Raises ValueError where the memory cannot hold one client."""
    memory = _memory_plan(design)
    logging.getLogger("fedfast").info("%s", memory)
    executor = _module_executor(design)
    evaluator = _evaluator(design, executor)
    if design.lowered.program is None:
        warn_once(design.lowered.reason)
    engine = _engine(design, executor, memory.chunk)
    personal = Personal(engine, evaluator, design.task.data)
    return Components(design, memory, executor, evaluator, engine, personal)


def _memory_plan(design: Design) -> MemoryPlan:
    options, settings, task = design.options, design.settings, design.task
    layout, algorithm, cohort = design.lowered.layout, settings.algorithm, _cohort(design)
    modules = memories.module_bytes(task.module, workers_for(task.traits, settings.threads))
    return memories.plan(
        options.memory,
        options.chunk,
        cohort,
        memories.bytes_per_client(layout, algorithm) + _activation_bytes(design),
        memories.server_bytes(layout, algorithm) + modules,
        memories.data_bytes(task.data),
        settings.device,
        memories.client_bytes(layout, algorithm, task.data.num_clients, design.rounds, cohort)
        + memories.cohort_bytes(layout, algorithm, cohort)
        + _evaluation_bytes(design),
    )


def _cohort(design: Design) -> int:
    return design.schedule.largest_cohort


def _activation_bytes(design: Design) -> int:
    """Bytes of one client's batch and of what a step computes from it."""
    lowered, settings = design.lowered, design.settings
    width, item = design.schedule.width, settings.dtype.itemsize
    if lowered.program is None:
        return width * item * lowered.trial[0].numel()
    looks, clips = settings.algorithm.local.looks, design.options.clip_norm is not None
    return bytes_per_client(lowered.program, width, item, looks, clips)


def _evaluation_bytes(design: Design) -> int:
    """Bytes of evaluation on the run's test set."""
    lowered, test = design.lowered, design.task.test
    if lowered.program is None or test is None or not len(test):
        return 0
    return evaluator_bytes(lowered.program, lowered.layout, len(test))


def _module_executor(design: Design) -> ModuleExecutor:
    task, options = design.task, design.options
    return ModuleExecutor(
        task.module,
        design.lowered.layout,
        task.loss,
        design.settings.threads,
        task.traits,
        task.metric,
        options.precision,
        options.seed,
    )


def _evaluator(design: Design, executor: ModuleExecutor) -> Callable[[], Evaluator]:
    task, lowered, options = design.task, design.lowered, design.options
    module, layout, backend = task.module, lowered.layout, options.backend

    @cache
    def evaluator() -> Evaluator:
        if lowered.program is None and options.verify:  # else its verification covers evaluation
            x = task.data.samples.take(lowered.few).inputs(layout.dtype)
            if misevaluated(module, layout, lowered.row, x, backend):
                return executor
        found = evaluator_for(module, layout, task.loss, lowered.trial, backend, task.metric)
        return found or executor

    return evaluator


def _engine(design: Design, executor: ModuleExecutor, chunk: int) -> Engine:
    lowered, local = design.lowered, _local_settings(design)
    trainers = Halving(_trainer(design, executor, local), chunk)
    data = replace(design.task.data, test=None)
    return Engine(trainers, data, lowered.layout, lowered.row, local, _engine_settings(design))


def _local_settings(design: Design) -> LocalSettings:
    options, settings = design.options, design.settings
    return LocalSettings(
        settings.algorithm,
        options.weight_decay,
        options.clip_norm,
        options.seed,
        options.backend,
        options.local_epochs,
        settings.client_decay,
    )


def _engine_settings(design: Design) -> EngineSettings:
    options = design.options
    whole = options.drop_last and options.batch_size is not None and options.schedule is None
    return EngineSettings(
        cohort=_cohort(design),
        width=design.schedule.width,
        by_samples=options.aggregation == "samples",
        tolerant=options.on_divergence == "continue",
        server_lr=options.server_lr,
        drop_last=whole,
    )


def _trainer(
    design: Design, executor: ModuleExecutor, local: LocalSettings
) -> Callable[[int], LocalTrainer]:
    """K -> what trains K clients at once."""
    options, settings, task = design.options, design.settings, design.task
    layout, program = design.lowered.layout, design.lowered.program
    pipeline = InputPipeline(task.data, task.augment, options.seed, settings.dtype, options.backend)

    def trainer(chunk: int) -> LocalTrainer:
        executor.forget()
        if program is None:
            return LocalTrainer(local, layout, executor, pipeline, chunk)
        where = settings.device, options.backend, options.precision
        steps = ProgramExecutor(program, layout, chunk, design.schedule.width, *where)
        return LocalTrainer(local, layout, steps, pipeline, chunk)

    return trainer
