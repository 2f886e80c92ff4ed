"""From a design to what runs: memory plan -> executor -> evaluator -> engine.

The only place that calls the constructors of executors, evaluators and the engine.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import torch

from . import memory as memories
from .algorithms._hook_checks import overrides
from .algorithms.optimizers import Optimizer
from .client_loop import LocalTrainer
from .data.pages import PagesAhead
from .design import Design
from .engine import Engine
from .evaluation import Evaluator
from .input_pipeline import InputPipeline
from .kernels.choices import precision_of
from .lowering import warn_once
from .memory import Halving, MemoryPlan
from .metrics.agreement.watch import watched_bytes
from .model_inspection import workers_for
from .module_executor import ModuleExecutor
from .personalization import Personal
from .programs import ProgramExecutor, bytes_per_client, scratch_bytes
from .programs.bottleneck import elements_per_client
from .programs.evaluator import evaluator_bytes, evaluator_for
from .programs.program import SampledHead
from .programs.verify import Subject, difference
from .rounds_once import RoundsOnce
from .row_tiers import SHARES, RowNeed, RowTier, choose
from .steady_rounds import SteadyRounds
from .torch_settings import usual_modes

PER_CLIENT = 16  # bytes: its number and its samples, for the schedule


@dataclass(frozen=True)
class Components:
    """What a simulation is made of: its round loop and its checkpoints work on these.

    rows       where clients' rows are kept
    executor   of the module: that of the rounds where there is no program
    evaluator  made when it is first needed
    pages      of the clients' samples, where they are a file
    """

    design: Design
    memory: MemoryPlan
    rows: RowTier
    executor: ModuleExecutor
    evaluator: Callable[[], Evaluator]
    engine: Engine
    personal: Personal
    pages: PagesAhead

    @cached_property
    def schedule(self) -> RoundsOnce:
        """A simulation's rounds, none of which is drawn twice."""
        return RoundsOnce(self.design.schedule)

    @cached_property
    def steady(self) -> SteadyRounds:
        """Of its rounds, those that repeat the ones before."""
        return SteadyRounds(self.engine, self.design, self.schedule)

    @property
    def fetches(self) -> bool:
        """Whether clients' rows are brought from elsewhere, round by round."""
        return self.rows.staged(self.design.dtype)


@usual_modes()
def build(design: Design) -> Components:
    """Raises ValueError where the memory cannot hold one client."""
    tier = row_tier(design)
    memory = memory_plan(design, tier)
    for said in filter(None, map(str, (memory, tier))):
        logging.getLogger("fedfast").info("%s", said)
    executor = _module_executor(design)
    evaluator = _evaluator(design, executor)
    engine = Engine(design, Halving(_trainer(design, executor), memory.chunk), tier)
    if design.program is None:  # and nothing refuses the run
        warn_once(design.reason)
    personal = Personal(engine, evaluator, design.data, design.loss)
    pages = PagesAhead(design.data.x)
    return Components(design, memory, tier, executor, evaluator, engine, personal, pages)


def row_tier(design: Design) -> RowTier:
    """Where clients' rows are kept. Raises ValueError naming the option where there is no room."""
    given, layout, algorithm = design.options, design.layout, design.algorithm
    cohort, population, rounds = design.cohort, design.data.num_clients, design.rounds
    expected = memories.taking_part(population, rounds, cohort)
    if given.schedule is not None:  # whose cohorts need not be drawn alike
        expected = min(population, (rounds - 1) * cohort)
    each = _bytes_per_client(design)
    rest = each + _server_bytes(design) + _beside(design)
    if given.memory == "auto":
        free = int(SHARES["device"] * memories.free_bytes(design.device)) - rest
    else:
        budget = int(float(given.memory) * memories.GIB)
        free = budget - rest - memories.data_bytes(design.data)
    widths = memories.row_widths(layout, algorithm)
    what = widths, design.dtype, design.device
    if free < 0:  # the rest has no room either, of which `memory_plan` tells
        free = sys.maxsize
    need = RowNeed(*what, population, rounds, cohort, expected, free)
    dtype = None if given.client_rows_dtype is None else getattr(torch, given.client_rows_dtype)
    folder = None if given.client_rows_folder is None else Path(given.client_rows_folder)
    found = choose(given.client_rows, dtype, folder, need)
    ranks = design.ranks
    return replace(found, shared=ranks is not None and ranks.local and design.device.type == "cpu")


def memory_plan(design: Design, tier: RowTier) -> MemoryPlan:
    """How many clients train at once. Raises ValueError where the memory cannot hold one."""
    return memories.plan(
        design.options.memory,
        design.options.chunk,
        design.cohort,
        _bytes_per_client(design),
        _server_bytes(design),
        memories.data_bytes(design.data),
        design.device,
        tier.on_device + _beside(design),
    )


def _bytes_per_client(design: Design) -> int:
    """Bytes that one more client at once takes."""
    rows = memories.bytes_per_client(design.layout, design.algorithm)
    if design.device.type != "cpu":
        rows += memories.addend_bytes(design.layout, design.algorithm) + _table_bytes(design)
    return rows + _activation_bytes(design)


def _table_bytes(design: Design) -> int:
    """Bytes of the tables that the steps of one client read."""
    sizes = design.longest, design.width
    drawn = design.augment is not None, design.traits.random
    return memories.table_bytes(design.layout, design.algorithm, *sizes, *drawn)


def _server_bytes(design: Design) -> int:
    """Bytes of the server's rows and of the copies of the model."""
    workers = workers_for(design.traits, design.threads)
    rows = memories.server_bytes(design.layout, design.algorithm)
    return rows + memories.module_bytes(design.module, workers)


def _beside(design: Design) -> int:
    """Bytes of models that a round keeps to its end, of evaluation, of rows of threads, and of
    numbers by client."""
    cohort = memories.cohort_bytes(design.layout, design.algorithm, design.cohort)
    cohort += watched_bytes(design.round_metrics, design.layout.trained, design.row, design.cohort)
    threads = design.threads * memories.addend_bytes(design.layout, design.algorithm)
    return cohort + _evaluation_bytes(design) + threads + PER_CLIENT * design.data.num_clients


def _activation_bytes(design: Design) -> int:
    """Bytes of one client's batch and of what a step computes from it."""
    width, item = design.width, design.dtype.itemsize
    if design.program is None:
        return width * item * design.trial[0].numel()
    local, clips = design.algorithm.local, design.options.clip_norm is not None
    head = design.program.head
    diverges = head is None and overrides(local, "objective", Optimizer)
    where = design.device.type, precision_of(design.precision, design.dtype)
    passes = local.looks and not diverges, clips, *where, diverges
    held = bytes_per_client(design.program, width, item, *passes)
    if design.device.type != "cpu":
        held += scratch_bytes(design.program, width, item)
    return held if head is None else held + _head_bytes(design, head)


def _head_bytes(design: Design, head: SampledHead) -> int:
    """Bytes of a client's samples; on a device its noise of all steps lies beside them."""
    own = elements_per_client(head, design.width)
    steps = 1 if design.device.type == "cpu" else design.longest
    noise = design.width * head.sampling.samples * head.size
    return design.dtype.itemsize * (own + steps * noise)


def _evaluation_bytes(design: Design) -> int:
    """Bytes of evaluation on the run's test set."""
    if design.program is None or design.program.head is not None:
        return 0
    if design.test is None or not len(design.test):
        return 0
    return evaluator_bytes(design.program, design.layout, len(design.test))


def _module_executor(design: Design) -> ModuleExecutor:
    return ModuleExecutor(
        design.module,
        design.layout,
        design.loss,
        design.threads,
        design.traits,
        design.metric,
        design.precision,
        design.options.seed,
    )


def _evaluator(design: Design, executor: ModuleExecutor) -> Callable[[], Evaluator]:
    module, layout, backend = design.module, design.layout, design.options.backend

    @cache
    def evaluator() -> Evaluator:
        if design.program is None and design.options.verify:  # else verified with the program
            x = design.few().inputs(layout.dtype)
            if difference(Subject(module, layout, design.row, x, backend)):
                return executor.evaluator
        how = backend, design.metric, design.precision
        found = evaluator_for(module, layout, design.loss, design.trial, *how)
        return found or executor.evaluator

    return evaluator


def _trainer(design: Design, executor: ModuleExecutor) -> Callable[[int], LocalTrainer]:
    """K -> what trains K clients at once."""
    given, program = design.options, design.program
    pipeline = InputPipeline(design.data, design.augment, given.seed, design.dtype, given.backend)

    @usual_modes()  # whoever asks for it first: its buffers are written to in a round's modes
    def trainer(chunk: int) -> LocalTrainer:
        executor.forget()
        if program is None:
            return LocalTrainer(design, executor, pipeline, chunk)
        where = design.device, given.backend, design.precision
        steps = ProgramExecutor(program, design.layout, chunk, design.width, *where)
        return LocalTrainer(design, steps, pipeline, chunk)

    return trainer
