"""The design of a run: the options checked against each other, and what follows from them."""

from __future__ import annotations

from dataclasses import replace

import torch

from . import precisions
from .data import Samples
from .distributed.ranks import shared
from .distributed.ranks import threads as rank_threads
from .kernels import registry
from .kernels.plan import forget_recording
from .layout import FlatLayout
from .lowering import program_for
from .metrics.agreement.round_metrics import round_metrics
from .options import SimulationOptions
from .programs.verify import Subject, difference, spread
from .torch_settings import torch_threads, usual_modes
from .validation import data as data_checks
from .validation import model as model_checks
from .validation import run as run_checks
from .validation.schedule import check_single_samples, schedule


class Design:
    """Everything that is decided before memory is taken that grows with K.

    lr            round -> learning rate
    client_decay  factor on a client's own rate per local epoch it has done
    data          the clients' training samples and their own test parts, on the device
    module        a copy of the user's; `traits` is what a trial step found out about it
    tried         the loss on some of the data
    test          the global test set
    round_metrics  what is measured beside each round
    layout, row   of the weights, and the initial ones [S]; numbers: how many a model sends
    precision     that is in force for float32 products
    program       the model as a layer program, None where there is none for the `reason`
    trial         [2, ...] samples
    cohort, width, longest  the most clients that train at once, the widest batch, the most steps
    identity      of the run, filled in by `checkpoint` when it is first asked for
    Raises TypeError/ValueError naming the option that is wrong.
    """

    @usual_modes()
    def __init__(self, options: SimulationOptions) -> None:
        self.options = options
        self.identity: dict[str, object] = {}
        self._check_settings()
        self._check_task()
        self._check_schedule()
        self.layout = FlatLayout.of(self.module, self.dtype, self.traits.moving)
        self.numbers = sum(s.length for s in self.layout.slots if s.dtype.is_floating_point)
        self.row = self.layout.flatten(self.module, self.device)
        registry.choose(options.backend, self.row)  # a missing backend is reported before round 1
        self.trial = self.data.samples.take(self.data.order[:2]).inputs(self.dtype)
        given, local = (self.module, self.layout, options.loss, self.trial), self.algorithm.local
        self.program, self.reason = program_for(*given, local.own_loss, local.sampling)
        forget_recording()  # which a signal may have left behind
        if options.verify:
            self._verify()

    def evaluates(self, t: int) -> bool:
        """Whether the models are tested after round `t`."""
        every, last = self.options.eval_every, self.options.eval_last
        return (t + 1) % every == 0 or t + last >= self.rounds

    def few(self) -> Samples:
        """Samples to verify with."""
        return self.data.samples.take(self.data.order[spread(len(self.data.order))])

    def _check_settings(self) -> None:
        given = self.options
        self.device, self.dtype = run_checks.device(given.device), run_checks.dtype(given.dtype)
        self.precision = precisions.chosen(given.precision, self.device)
        self.ranks = shared() if given.ranks == "all" else None
        usual = torch.get_num_threads if self.ranks is None else rank_threads
        self.threads = usual() if given.threads is None else given.threads
        self.algorithm = run_checks.algorithm(given.algorithm)
        self.callbacks = run_checks.callbacks(given.callbacks)
        self.round_metrics = round_metrics(given.metrics)
        self.algorithm.check_run(given.local_epochs, given.batch_size)
        per, decay = given.lr_decay_per, given.lr_decay
        self.client_decay = run_checks.client_decay(self.algorithm, per, decay)
        self.lr = run_checks.learning_rate(given.lr, decay if per == "round" else 1.0)

    def _check_task(self) -> None:
        given, device, dtype = self.options, self.device, self.dtype
        data = data_checks.clients(given.clients, given.empty_clients)
        data_checks.client_metrics(given.client_metrics, data)
        self.data = (data.pooled() if self.algorithm.pools else data).to(device, dtype)
        self.loss = model_checks.loss(given.loss, device, dtype)
        self.module, traits = model_checks.model(given.model, self.data, device, dtype)
        self.tried, y = model_checks.tried(given.loss, self.loss, self.module, self.data, dtype)
        self.traits = replace(traits, random=traits.random or self.tried.random)
        model_checks.by_class(self.algorithm, self.tried.outputs, self.data.y)
        self.metric = model_checks.metric(given.metric, self.tried, self.data, y)
        self.test = data_checks.test(given.test, self.data, self.tried, device, dtype)
        self.augment = data_checks.augment(given.augment, self.data)

    def _check_schedule(self) -> None:
        given, data = self.options, self.data
        self.schedule = schedule(given, data.sizes)
        # Both cut a client's samples into batches of their own, of the schedule's width.
        tunes = given.schedule is not None and self.algorithm.fine_tune is not None
        whole = self.algorithm.drift.full_gradient or tunes
        one = data.samples.take(data.order[:1]).inputs(self.dtype)
        check_single_samples(self.module, one, self.schedule, data.sizes, whole)
        self.width, self.cohort = self.schedule.width, self.schedule.largest_cohort
        self.longest = self.schedule.longest
        self.rounds = given.rounds if given.schedule is None else self.schedule.rounds
        self.lr(self.rounds - 1)  # a schedule that ends too early is refused before round 1

    def _verify(self) -> None:
        """Give the program up where its gradients are not those of autograd."""
        if self.program is None:
            return
        few = self.few()
        x, backend = few.inputs(self.dtype), self.options.backend
        subject = Subject(self.module, self.layout, self.row, x, backend)
        with torch_threads(self.threads):
            found = difference(subject, self.program, few.y)
        if found:
            self.program, self.reason = None, found
