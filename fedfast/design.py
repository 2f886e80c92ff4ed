"""The design of a run: a user's options, checked against each other, and what follows from them.

Nothing here takes memory that grows with the run; `build` makes what works from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from .algorithms import Algorithm
from .client_sampling import Schedule
from .data import Augment, FederatedData, Samples
from .kernels import registry
from .kernels.plan import forget_noting
from .layout import FlatLayout
from .losses import Tried
from .lowering import program_for
from .metrics import Metric
from .model_inspection import Traits
from .network import Loss
from .options import SimulationOptions
from .programs import Program
from .programs.verify import difference, spread
from .threads import torch_threads
from .validation import data as data_checks
from .validation import model as model_checks
from .validation import run as run_checks
from .validation.schedule import check_single_samples, schedule


@dataclass(frozen=True)
class Settings:
    """What holds before the data are known.

    lr            round -> learning rate
    client_decay  factor on a client's own rate per local epoch it has done
    """

    device: torch.device
    dtype: torch.dtype
    threads: int
    algorithm: Algorithm
    callbacks: tuple[Callable[..., object], ...]
    lr: Callable[[int], float]
    client_decay: float


@dataclass(frozen=True)
class Task:
    """What is learned: data, model, loss and metric, on the run's device.

    data    the clients' training samples and their own test parts
    module  a copy of the user's
    traits  what a trial step found out about it
    tried   the loss on some of the data
    test    the global test set
    """

    data: FederatedData
    module: nn.Module
    traits: Traits
    loss: Loss
    tried: Tried
    metric: Metric
    test: Samples | None
    augment: Augment | None


@dataclass(frozen=True)
class Lowered:
    """The model as a row of weights, and as a layer program where it is one.

    row     [S], the initial weights
    trial   [2, ...] samples
    few     [k], indices of samples to verify with
    reason  why there is no program, "" if there is one
    """

    layout: FlatLayout
    row: Tensor
    trial: Tensor
    few: Tensor
    program: Program | None
    reason: str


@dataclass(frozen=True)
class Design:
    """Everything that is decided before the first buffer is made.

    identity  of the run, filled in by `checkpoint` when it is first asked for
    """

    options: SimulationOptions
    settings: Settings
    task: Task
    schedule: Schedule
    rounds: int
    lowered: Lowered
    identity: dict[str, object] = field(default_factory=dict)

    def evaluates(self, t: int) -> bool:
        """Whether the models are tested after round `t`."""
        every, last = self.options.eval_every, self.options.eval_last
        return (t + 1) % every == 0 or t + last >= self.rounds


def design(options: SimulationOptions) -> Design:
    """Raises TypeError/ValueError naming the option that is wrong."""
    settings = _settings(options)
    task = _task(options, settings)
    plan = _schedule(options, settings, task)
    rounds = options.rounds if options.schedule is None else plan.rounds
    settings.lr(rounds - 1)  # a schedule that ends too early is refused before round 1
    return Design(options, settings, task, plan, rounds, _lowered(options, settings, task))


def _settings(options: SimulationOptions) -> Settings:
    device, dtype = run_checks.device(options.device), run_checks.dtype(options.dtype)
    algorithm = run_checks.algorithm(options.algorithm)
    callbacks = run_checks.callbacks(options.callbacks)
    algorithm.check_run(options.local_epochs, options.batch_size)
    per, decay = options.lr_decay_per, options.lr_decay
    return Settings(
        device,
        dtype,
        torch.get_num_threads() if options.threads is None else options.threads,
        algorithm,
        callbacks,
        run_checks.learning_rate(options.lr, decay if per == "round" else 1.0),
        run_checks.client_decay(algorithm, per, decay),
    )


def _task(options: SimulationOptions, settings: Settings) -> Task:
    algorithm, device, dtype = settings.algorithm, settings.device, settings.dtype
    data = data_checks.clients(options.clients, options.empty_clients)
    data = (data.pooled() if algorithm.pools else data).to(device, dtype)
    loss = model_checks.loss(options.loss, device, dtype)
    module, traits = model_checks.model(options.model, data, device, dtype)
    tried, targets = model_checks.tried(options.loss, loss, module, data, dtype)
    model_checks.by_class(algorithm, tried.outputs, data.y)
    return Task(
        data,
        module,
        replace(traits, random=traits.random or tried.random),
        loss,
        tried,
        model_checks.metric(options.metric, tried, data, targets),
        data_checks.test(options.test, data, tried, device, dtype),
        data_checks.augment(options.augment, data),
    )


def _schedule(options: SimulationOptions, settings: Settings, task: Task) -> Schedule:
    found, data = schedule(options, task.data.sizes), task.data
    check_single_samples(
        task.module,
        data.samples.take(data.order[:1]).inputs(settings.dtype),
        found,
        data.sizes,
        # Both cut a client's samples into batches of their own, of the schedule's width.
        settings.algorithm.drift.full_gradient
        or (options.schedule is not None and settings.algorithm.fine_tune is not None),
    )
    return found


def _lowered(options: SimulationOptions, settings: Settings, task: Task) -> Lowered:
    data = task.data
    layout = FlatLayout.of(task.module, settings.dtype, task.traits.moving)
    row = layout.flatten(task.module, settings.device)
    registry.choose(options.backend, row)  # a missing backend is reported now, not in round 1
    trial = data.samples.take(data.order[:2]).inputs(settings.dtype)
    own_loss = settings.algorithm.local.own_loss
    program, reason = program_for(task.module, layout, options.loss, trial, own_loss)
    forget_noting()  # which a signal may have left behind
    few = data.order[spread(len(data.order))]
    found = Lowered(layout, row, trial, few, program, reason)
    return _verified(options, settings, task, found) if options.verify else found


def _verified(
    options: SimulationOptions, settings: Settings, task: Task, lowered: Lowered
) -> Lowered:
    """Without a program where its gradients are not those of autograd."""
    if lowered.program is None:
        return lowered
    few = task.data.samples.take(lowered.few)
    with torch_threads(settings.threads):
        found = difference(
            *(task.module, lowered.program, lowered.layout, lowered.row),
            *(few.inputs(settings.dtype), few.y, options.backend),
        )
    return replace(lowered, program=None, reason=found) if found else lowered
