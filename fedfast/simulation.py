"""`Simulation`, the public door: checks its arguments, wires the engine, yields a row a round."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import checkpoint
from . import memory as memories
from ._messages import format_value
from .algorithms import Algorithm
from .checkpoint.identity import options
from .client_loop import LocalSettings, LocalTrainer
from .client_sampling import SAMPLINGS, Round, Schedule
from .copies import copy_of
from .data import Augment, FederatedData, Samples
from .engine import Engine, EngineSettings, Outcome
from .evaluation import Evaluator
from .executor import Executor
from .history import History, Row
from .input_pipeline import InputPipeline
from .kernels import registry
from .kernels._args import PRECISIONS
from .kernels.overlap import apart_by_construction
from .kernels.plan import forget_recording
from .layout import FlatLayout
from .losses import Loss
from .lowering import program_for, warn_once
from .metrics import Metric
from .model_inspection import workers_for
from .module_executor import ModuleExecutor
from .personalization import ClientScores, Personal
from .programs import Program, ProgramExecutor, bytes_per_client
from .programs.evaluator import evaluator_bytes, evaluator_for
from .programs.verify import difference, misevaluated, spread
from .random_state import kept_random_state, seed_all
from .state import Committed
from .tf32 import rounding
from .threads import torch_threads
from .validation import run as validation

Callback = Callable[["Simulation", Row], object]


class Simulation:
    """Federated training of one model by one algorithm.

    model          any `nn.Module`, [n, ...] -> [n, classes], or [n, ...] under a callable loss; its
                   weights are round 0. It is copied, never changed:
                   `model.load_state_dict(sim.state_dict())` takes the result home
    clients        `FederatedData`, from a partition or `from_arrays([x0, ...], [y0, ...])`
    algorithm      an object of `fedfast.algorithms`, or its name
    test           optional global test set: (x, y) tensors, a torch Dataset, `Samples`
    rounds         how many rounds `run` makes in all
    participation  share of clients per round, in (0, 1]: max(1, round(share * clients)) of them
    local_epochs   passes over a client's samples per round
    batch_size     samples of a local step, the last of an epoch may have fewer; None takes them all
    lr, lr_decay   local learning rate of round t: lr * lr_decay**t, or lr(t) if `lr` is callable
    server_lr      the papers' eta_g
    weight_decay   joins after clipping, as in torch SGD
    clip_norm      largest norm of a client's step direction, None for no clipping
    loss           "cross_entropy", or a callable (outputs, targets) -> mean over the batch, tried
                   before round 1. The test loss is the callable on the whole test set, the training
                   loss the mean of the steps' losses
    aggregation    "samples": clients weigh n_k; "uniform": all alike
    augment        random crops and flips of training images of bytes (uint8): an `Augment`, or
                   "crop-flip", "crop-flip-batch", "crop-flip-half"; None for none
    seed           keys cohorts, batches, augmentation and dropout by (seed, round, client)
    device, dtype  "auto" (CUDA where there is one), "cpu", "cuda"; torch.float32 or torch.float64
    backend        voice of the operations: "auto", "native", "triton", "reference"
    precision      how far a GPU may round float32 products, in training and evaluation: "fp32" (not
                   at all), "tf32x3", "tf32", "bf16"; the CPU never does
    chunk          K, clients trained together; None takes what memory allows
    memory         budget of the run in GiB, or "auto" for a share of what is free; the attribute
                   `memory` says what came of it. Where a GPU runs out all the same K is halved
    threads        None takes torch's. Neither K nor threads change a bit of the result
    schedule       a `Schedule` with its own rounds and batches; None draws one from the seed
    callbacks      called as f(sim, row) after each round
    on_divergence  "stop" ends the run when a model turns non-finite, "continue" counts such a
                   client as unmoved; either way the row says so and the global model stays finite
    empty_clients  "skip" never samples clients without data, "refuse" raises
    eval_every     rounds between evaluations on `test` and on the clients' own test parts, where
                   they have some (the last round is always evaluated)
    eval_last      so many of the last rounds are evaluated each, for means over them
    sampling       "exact": the cohort has exactly that share of the clients; "bernoulli": each
                   takes part with that probability, at least one does
    drop_last      leave out the last batch of an epoch where it has fewer than `batch_size`
                   samples, as torch's DataLoader does; clients with less than one batch are then
                   treated as `empty_clients` says. A `schedule` of one's own has its own batches
    metric         what accuracies count: "auto" by loss and targets, "multiclass", "binary",
                   "multilabel" (share of labels right), "none" (nan), or a callable (outputs,
                   targets) -> [n] how right each sample is; see `fedfast.metrics`
    verify         compare a layer program, in training and evaluation, with autograd on the
                   module before round 1, on a few samples; where they differ the module is asked
    lr_decay_per   "round": see lr_decay; "client_epoch": every client has a rate of its own,
                   lr * lr_decay**(local epochs that it has done, in all rounds it took part in)

    Models that `fedfast.programs` can trace train layer by layer for K clients at once; others take
    the generic path, and `generic_because` says why ("" for a program).
    Raises TypeError/ValueError naming the argument, before any training.
    """

    def __init__(
        self,
        model: nn.Module,
        clients: FederatedData,
        algorithm: Algorithm | str = "fedavg",
        *,
        test: object = None,
        rounds: int = 100,
        participation: float = 0.1,
        local_epochs: int = 1,
        batch_size: int | None = 50,
        lr: float | Callable[[int], float] = 0.1,
        lr_decay: float = 1.0,
        server_lr: float = 1.0,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        loss: str | Loss = "cross_entropy",
        aggregation: str = "samples",
        augment: str | Augment | None = None,
        seed: int = 0,
        device: str | torch.device = "auto",
        dtype: torch.dtype = torch.float32,
        backend: str = "auto",
        precision: str = "fp32",
        chunk: int | None = None,
        memory: float | str = "auto",
        threads: int | None = None,
        schedule: Schedule | None = None,
        callbacks: Sequence[Callback] = (),
        on_divergence: str = "stop",
        empty_clients: str = "skip",
        eval_every: int = 1,
        eval_last: int = 1,
        sampling: str = "exact",
        drop_last: bool = False,
        metric: str | Metric = "auto",
        verify: bool = True,
        lr_decay_per: str = "round",
    ) -> None:
        self._options = options(locals())
        self._identity: dict[str, Any] = {}
        validation.positive_int("rounds", rounds)
        validation.fraction("participation", participation)
        validation.positive_int("local_epochs", local_epochs)
        validation.optional(validation.positive_int, "batch_size", batch_size)
        validation.optional(validation.positive_int, "chunk", chunk)
        validation.optional(validation.positive_int, "threads", threads)
        validation.memory(memory)
        validation.positive_int("eval_every", eval_every)
        validation.positive_int("eval_last", eval_last)
        validation.one_of("sampling", sampling, SAMPLINGS)
        validation.boolean("drop_last", drop_last)
        validation.boolean("verify", verify)
        validation.number("lr_decay", lr_decay, above=0.0)
        validation.number("server_lr", server_lr, above=0.0)
        validation.number("weight_decay", weight_decay, at_least=0.0)
        validation.optional(validation.number, "clip_norm", clip_norm, above=0.0)
        validation.one_of("aggregation", aggregation, ("samples", "uniform"))
        validation.one_of("on_divergence", on_divergence, ("stop", "continue"))
        validation.one_of("empty_clients", empty_clients, ("skip", "refuse"))
        validation.one_of("backend", backend, registry.BACKENDS)
        validation.one_of("precision", precision, PRECISIONS)
        validation.integer("seed", seed)
        self.device, self.dtype = validation.device(device), validation.dtype(dtype)
        self.threads = torch.get_num_threads() if threads is None else threads
        self.algorithm = validation.algorithm(algorithm)
        self.callbacks = validation.callbacks(callbacks)
        self.algorithm.check_run(local_epochs, batch_size)
        decay = validation.client_decay(self.algorithm, lr_decay_per, lr_decay)
        self._lr = validation.learning_rate(lr, lr_decay if lr_decay_per == "round" else 1.0)
        self._on_divergence = on_divergence
        self._eval_every, self._eval_last = eval_every, eval_last

        data = validation.clients(clients, empty_clients)
        data = (data.pooled() if self.algorithm.pools else data).to(self.device, self.dtype)
        loss_fn = validation.loss(loss, self.device, self.dtype)
        self._model, traits = validation.model(model, data, self.device, self.dtype)
        self._tried, y = validation.tried(loss, loss_fn, self._model, data, self.dtype)
        traits = replace(traits, random=traits.random or self._tried.random)
        validation.by_class(self.algorithm, self._tried.outputs, data.y)
        right = validation.metric(metric, self._tried, data, y)
        self._test = validation.test(test, data, self._tried, self.device, self.dtype)
        if drop_last and schedule is None:
            validation.whole_batches(data.sizes, batch_size, empty_clients)
        how = rounds, participation, local_epochs, batch_size, seed, sampling, drop_last
        self.schedule = validation.schedule(schedule, data.sizes, *how)
        validation.single_samples(
            self._model,
            data.samples.take(data.order[:1]).inputs(self.dtype),
            self.schedule,
            data.sizes,
            # Both cut a client's samples into batches of their own, of the schedule's width.
            self.algorithm.drift.full_gradient
            or (schedule is not None and self.algorithm.fine_tune is not None),
        )
        self.rounds = rounds if schedule is None else self.schedule.rounds
        self._lr(self.rounds - 1)  # a schedule that ends too early is said before round 1

        layout = FlatLayout.of(self._model, self.dtype, traits.moving)
        row = layout.flatten(self._model, self.device)
        registry.choose(backend, row)  # a voice that is missing is said now, not in round 1
        trial = data.samples.take(data.order[:2]).inputs(self.dtype)
        program, self.generic_because = program_for(
            self._model, layout, loss, trial, self.algorithm.local.own_loss
        )
        forget_recording()  # which a signal may have left behind
        few = data.order[spread(len(data.order))]
        if program is not None and verify:
            with torch_threads(self.threads):
                found = difference(
                    *(self._model, program, layout, row),
                    *(data.samples.take(few).inputs(self.dtype), data.samples.y[few], backend),
                )
            if found:
                program, self.generic_because = None, found
        width, item = self.schedule.width, self.dtype.itemsize
        activations = width * item * trial[0].numel()
        if program is not None:
            looks, clips = self.algorithm.local.looks, clip_norm is not None
            activations = bytes_per_client(program, width, item, looks, clips)
        self.memory = memories.plan(
            memory,
            chunk,
            self.schedule.largest_cohort,
            memories.bytes_per_client(layout, self.algorithm) + activations,
            memories.server_bytes(layout, self.algorithm)
            + memories.module_bytes(self._model, workers_for(traits, self.threads)),
            memories.data_bytes(data),
            self.device,
            self._kept_bytes(layout, data.num_clients) + self._judged_bytes(program, layout),
        )
        logging.getLogger("fedfast").info("%s", self.memory)
        module = self._model
        generic = ModuleExecutor(
            module, layout, loss_fn, self.threads, traits, right, precision, seed
        )

        @cache
        def evaluator() -> Evaluator:
            if program is None and verify:  # else its proof covers evaluation
                x = data.samples.take(few).inputs(self.dtype)
                if misevaluated(module, layout, row, x, backend):
                    return generic.evaluator
            return (
                evaluator_for(module, layout, loss_fn, trial, backend, right) or generic.evaluator
            )

        self._judge, self._generic = evaluator, generic
        if program is None:
            warn_once(self.generic_because)
        local = LocalSettings(
            self.algorithm, weight_decay, clip_norm, seed, backend, local_epochs, decay
        )
        self._options["augment"] = validation.augment(augment, data)
        feed = InputPipeline(data, self._options["augment"], seed, self.dtype, backend)

        def trainer(chunk: int) -> LocalTrainer:
            generic.forget()
            executor: Executor = generic
            if program is not None:
                where = self.device, backend, precision
                executor = ProgramExecutor(program, layout, chunk, width, *where)
            return LocalTrainer(local, layout, executor, feed, chunk)

        trainers = memories.Halving(trainer, self.memory.chunk)
        settings = EngineSettings(
            cohort=self.schedule.largest_cohort,
            width=self.schedule.width,
            by_samples=aggregation == "samples",
            tolerant=on_divergence == "continue",
            server_lr=server_lr,
            drop_last=drop_last and batch_size is not None and schedule is None,
        )
        self._tests = data.test
        self._engine = Engine(trainers, replace(data, test=None), layout, row, local, settings)
        self._personal = Personal(self._engine, self._judge, data)
        self.layout, self._history = layout, History()

    def _kept_bytes(self, layout: FlatLayout, population: int) -> int:
        """Bytes of what clients keep between rounds and of what a round keeps of its cohort."""
        cohort = self.schedule.largest_cohort
        kept = memories.client_bytes(layout, self.algorithm, population, self.rounds, cohort)
        return kept + memories.cohort_bytes(layout, self.algorithm, cohort)

    def _judged_bytes(self, program: Program | None, layout: FlatLayout) -> int:
        """Bytes of evaluation on the run's test set."""
        tested = 0 if self._test is None else len(self._test)
        return evaluator_bytes(program, layout, tested) if program is not None and tested else 0

    @property
    def chunk(self) -> int:
        """K, clients trained together; less than planned once memory has run out."""
        return self._engine.trainers.chunk

    @property
    def round(self) -> int:
        """Rounds done so far."""
        return len(self._engine.committed.rows)

    @property
    def history(self) -> History:
        """The rows of the rounds done so far."""
        rows = self._engine.committed.rows
        if len(self._history) != len(rows) or (rows and self._history.rows[-1] is not rows[-1]):
            self._history.rows[:] = rows
        return self._history

    @property
    def stopped(self) -> bool:
        """Whether the run ended early because a model became non-finite."""
        return self._engine.committed.stopped

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes (down, up) that a client and the server exchange per round, at least."""
        sizes = self.algorithm.traffic()
        model = sum(s.length for s in self.layout.slots if s.dtype.is_floating_point)
        extra, item = self.layout.parameters, self.dtype.itemsize
        return tuple(item * (model + (n - 1) * extra) if n else 0 for n in sizes)  # type: ignore

    def __iter__(self) -> Iterator[Row]:
        """Train round by round, from where the simulation stands; yields each round's `Row`.

        A round happens whole or not at all: where an exception or a signal breaks it off, the
        simulation is where the round before has left it, and iterating again repeats the round.
        Callbacks follow the round: what they raise does not undo it, and they are not called again.
        """
        while self.round < self.rounds and not self.stopped:
            row = self._one_round()
            for callback in self.callbacks:
                callback(self, row)
            yield row

    def run(self, progress: bool = True, label: str | None = None) -> History:
        """Train to the end under a progress bar (plain lines without a terminal).

        label  what stands before it; None takes the algorithm's name
        """
        validation.boolean("progress", progress)
        if label is not None and not isinstance(label, str):
            raise TypeError(f"label: expected a word; got {format_value(label)}")
        if not progress:
            for _ in self:
                pass
            return self.history
        from .report.progress import Progress

        with Progress(self.rounds, label or self.algorithm.name) as show:
            for row in self:
                show(row)
        return self.history

    def evaluate(self, test: object = None) -> tuple[float, float]:
        """(accuracy, mean loss) of the global model on `test`, by default the run's own."""
        samples = self._test
        if test is not None:
            samples = validation.test(test, self._engine.data, self._tried, self.device, self.dtype)
        if samples is None:
            raise ValueError("test: the simulation has no test set; give one")
        with torch_threads(self.threads):
            return self._judged(self._engine.state.row, samples)

    def _judged(self, row: Tensor, samples: Samples) -> tuple[float, float]:
        """(accuracy, loss) of a model's row; a loss that draws does so alike at every evaluation.

        Modules that draw are seeded by the generic path, batch by batch.
        """
        if not self._tried.random:
            return self._judge().evaluate(row, samples)
        with kept_random_state():
            seed_all(self._generic.seed)
            return self._judge().evaluate(row, samples)

    def evaluate_clients(self) -> ClientScores:
        """The global and the personal models on each client's own test part.

        Raises ValueError where the clients have no test parts.
        """
        with torch_threads(self.threads):
            return self._personal.scores()

    def client_state_dict(self, i: int) -> dict[str, Tensor]:
        """The personal model of client `i`; loads into the user's own module.

        Raises ValueError where the algorithm keeps none, or not yet (fine-tuning comes last).
        """
        return self.layout.state_dict(self._personal.row(i), self._model)

    def state_dict(self) -> dict[str, Tensor]:
        """The global model; loads into the user's own module."""
        return self.layout.state_dict(self._engine.state.row, self._model)

    def model(self) -> nn.Module:
        """A copy of the user's module that holds the global model."""
        module = copy_of(self._model)
        self.layout.write(self._engine.state.row, module)
        return module

    def save(self, path: str | Path) -> None:
        """Write the whole state, clients' rows and history included: `load` goes on from there.

        A state that is there already is kept as `PATH.previous`; `load` takes it where the newest
        is damaged. Raises OSError naming the file where it cannot be written.
        """
        checkpoint.save(self, path)

    def load(self, path: str | Path) -> None:
        """Go on where `save` was called, bit for bit, perhaps to more rounds.

        The simulation must be made with the same arguments. Free are `rounds`, `callbacks`,
        `eval_every`, `eval_last`, `metric`, `verify`, `empty_clients`, and `device`, `backend`,
        `threads`, `chunk`, `memory`; a callable `lr` must return what it did for the rounds done.
        Taken on to more rounds, what only the earlier end has brought is gone: tuned models, and
        figures of rounds that are not evaluated otherwise.
        Raises ValueError naming the file, and all that differs, where it is of another run or no
        saved simulation; nothing has changed then. Warns where it takes the state before the
        newest, which is damaged.
        """
        checkpoint.load(self, path)

    def _one_round(self) -> Row:
        """The next round. Its last statement but one commits it, until then nothing has changed."""
        t, lr = self.round, self._lr(self.round)
        forget_recording()
        self._generic.wait()
        begin = time.perf_counter()
        with self._training():
            plan = self.schedule.round(t)
            rehearses = self.algorithm.server.rehearses
            rehearsal = self.schedule.round(t, exchange=1) if rehearses else None
            outcome = self._engine.round(t, plan, lr, rehearsal)
        seconds = time.perf_counter() - begin
        after = self._concluded(t, lr, outcome)
        row = self._row(t, lr, plan, outcome, after, seconds)
        self._engine.committed = replace(after, rows=(*after.rows, row))
        return row

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Torch's threads, random numbers and precision, as local steps want them."""
        random, precision = self._engine.trainer.executor.random, self._generic.precision
        with (
            torch_threads(self.threads),
            validation.own_random_state(random),
            rounding(precision),
            # Buffers of the run lie apart; what an algorithm of the user's hands over may not.
            apart_by_construction(not self._engine.foreign),
        ):
            yield

    def _concluded(self, t: int, lr: float, outcome: Outcome) -> Committed:
        """What round `t` leaves, with what the last round adds to it."""
        stops = self._status(outcome) != "ok" and self._on_divergence == "stop"
        after, last = replace(outcome.after, stopped=stops, tuned=None), t + 1 == self.rounds
        if not last or stops or self.algorithm.fine_tune is None:
            return after
        with self._training():
            return replace(after, tuned=self._personal.fine_tune(after.server.row, t + 1, lr))

    def _row(
        self, t: int, lr: float, plan: Round, outcome: Outcome, after: Committed, seconds: float
    ) -> Row:
        accuracy, loss, scores = self._evaluation(t, after)
        clients, (down, up) = len(plan.clients), self.traffic
        return Row(
            round=t + 1,
            accuracy=accuracy,
            loss=loss,
            train_loss=outcome.train_loss,
            lr=lr,
            clients=clients,
            samples=outcome.samples,
            update_norm=outcome.update_norm,
            update_norm_sum=outcome.norm_sum,
            scalars=" ".join(f"{k}={v!r}" for k, v in after.server.scalars.items()),
            bytes_down=down * clients,
            bytes_up=up * clients,
            seconds=seconds,
            clients_per_second=clients / seconds,
            status=self._status(outcome),
            **scores,
        )

    def _evaluation(self, t: int, after: Committed) -> tuple[float, float, dict[str, float]]:
        """(accuracy, loss, columns of the clients' own test parts) of a state not committed yet."""
        due, figures = self._due(t, after.stopped), (math.nan, math.nan)
        with torch_threads(self.threads):
            if due and self._test is not None:
                figures = self._judged(after.server.row, self._test)
            scores = self._personal.scores(after).columns() if due and self._personal.test else {}
        return *figures, scores

    def _due(self, t: int, stopped: bool) -> bool:
        late = t + self._eval_last >= self.rounds
        return (t + 1) % self._eval_every == 0 or late or stopped

    def _status(self, outcome: Outcome) -> str:
        if outcome.diverged:
            shown = ", ".join(map(str, outcome.diverged[:5]))
            more = f" and {len(outcome.diverged) - 5} more" if len(outcome.diverged) > 5 else ""
            plural = "s" if len(outcome.diverged) > 1 else ""
            return f"diverged: client{plural} {shown}{more} non-finite"
        return "ok" if outcome.finite else "diverged: global model non-finite"
