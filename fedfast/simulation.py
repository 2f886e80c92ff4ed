"""`Simulation`, the public door: checks its arguments, wires the engine, yields a row a round."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from . import _doors as doors
from . import memory as memories
from . import saved
from .algorithms import Algorithm
from .data import Augment, FederatedData
from .engine import Engine, EngineSettings, Outcome
from .feed import Feed
from .generic import GenericPath, Loss, torch_threads
from .history import History, Row
from .kernels import _launch
from .kernels._args import PRECISIONS
from .layout import FlatLayout
from .local import LocalSettings, LocalTrainer
from .paths import program_for, say_once
from .personal import ClientScores, Judge, Personal
from .programs import ProgramPath, bytes_per_client
from .programs.judge import judge_for
from .schedule import SAMPLINGS, Schedule

Callback = Callable[["Simulation", Row], object]


class Simulation:
    """Federated training of one model by one algorithm.

    model          any `nn.Module` classifier, [n, ...] -> [n, classes]; its weights are round 0. It
                   is copied, never changed: `model.load_state_dict(sim.state_dict())` takes the
                   result home
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
    loss           "cross_entropy", or a callable (logits, targets) -> mean over the batch
    aggregation    "samples": clients weigh n_k; "uniform": all alike
    augment        random crops and flips of training images of bytes (uint8): an `Augment`, or
                   "crop-flip", "crop-flip-batch", "crop-flip-half"; None for none
    seed           keys cohorts, batches, augmentation and dropout by (seed, round, client)
    device, dtype  "auto" (CUDA where there is one), "cpu", "cuda"; torch.float32 or torch.float64
    backend        voice of the operations: "auto", "native", "triton", "reference"
    precision      how far a GPU may round float32 products of layer programs: "fp32" (not at all),
                   "tf32x3", "tf32", "bf16"; the CPU never does
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
        lr_decay_per: str = "round",
    ) -> None:
        doors.positive_int("rounds", rounds)
        doors.fraction("participation", participation)
        doors.positive_int("local_epochs", local_epochs)
        doors.optional(doors.positive_int, "batch_size", batch_size)
        doors.optional(doors.positive_int, "chunk", chunk)
        doors.optional(doors.positive_int, "threads", threads)
        doors.memory(memory)
        doors.positive_int("eval_every", eval_every)
        doors.positive_int("eval_last", eval_last)
        doors.one_of("sampling", sampling, SAMPLINGS)
        doors.number("lr_decay", lr_decay, above=0.0)
        doors.number("server_lr", server_lr, above=0.0)
        doors.number("weight_decay", weight_decay, at_least=0.0)
        doors.optional(doors.number, "clip_norm", clip_norm, above=0.0)
        doors.one_of("aggregation", aggregation, ("samples", "uniform"))
        doors.one_of("on_divergence", on_divergence, ("stop", "continue"))
        doors.one_of("empty_clients", empty_clients, ("skip", "refuse"))
        doors.one_of("backend", backend, _launch.BACKENDS)
        doors.one_of("precision", precision, PRECISIONS)
        doors.integer("seed", seed)
        self.device, self.dtype = doors.device(device), doors.dtype(dtype)
        self.threads = torch.get_num_threads() if threads is None else threads
        self.algorithm = doors.algorithm(algorithm)
        self.callbacks = doors.callbacks(callbacks)
        self.algorithm.check_run(local_epochs, batch_size)
        decay = doors.client_decay(self.algorithm, lr_decay_per, lr_decay)
        self._lr = doors.learning_rate(lr, lr_decay if lr_decay_per == "round" else 1.0)
        self._on_divergence = on_divergence
        self._eval_every, self._eval_last = eval_every, eval_last

        data = doors.clients(clients, empty_clients)
        data = (data.pooled() if self.algorithm.pools else data).to(self.device, self.dtype)
        loss_fn = doors.loss(loss)
        self._model, traits = doors.model(model, data, self.device, self.dtype)
        doors.labels("clients", data.y, traits.classes, loss)
        for i, part in enumerate(data.test or []):
            doors.labels(f"clients.test[{i}]", part.y, traits.classes, loss)
        self._test = doors.test(test, data, traits.classes, loss, self.device, self.dtype)
        self.schedule = doors.schedule(
            schedule, data.sizes, rounds, participation, local_epochs, batch_size, seed, sampling
        )
        self.rounds = rounds if schedule is None else self.schedule.rounds
        self._lr(self.rounds - 1)  # a schedule that ends too early is said before round 1

        layout = FlatLayout.of(self._model, self.dtype)
        row = layout.flatten(self._model, self.device)
        _launch.choose(backend, row)  # a voice that is missing is said now, not in round 1
        trial = data.bank.take(data.order[:2]).inputs(self.dtype)
        program, self.generic_because = program_for(
            self._model, layout, loss, trial, self.algorithm.local.own_loss
        )
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
            memories.server_bytes(layout, self.algorithm),
            memories.data_bytes(data),
            self.device,
        )
        logging.getLogger("fedfast").info("%s", self.memory)
        module = self._model
        generic = GenericPath(module, layout, loss_fn, self.threads, traits)

        @cache
        def judge() -> Judge:
            return judge_for(module, layout, loss_fn, trial, backend) or generic

        self._judge = judge
        if program is None:
            say_once(self.generic_because)
        local = LocalSettings(
            self.algorithm, weight_decay, clip_norm, seed, backend, local_epochs, decay
        )
        feed = Feed(data, doors.augment(augment, data), seed, self.dtype, backend)

        def trainer(chunk: int) -> LocalTrainer:
            generic.forget()
            path: GenericPath | ProgramPath = generic
            if program is not None:
                where = self.device, backend, precision
                path = ProgramPath(program, layout, chunk, width, *where)
            return LocalTrainer(local, layout, path, feed, chunk)

        trainers = memories.Halving(trainer, self.memory.chunk)
        settings = EngineSettings(
            cohort=self.schedule.largest_cohort,
            width=self.schedule.width,
            by_samples=aggregation == "samples",
            tolerant=on_divergence == "continue",
            server_lr=server_lr,
        )
        self._engine = Engine(trainers, replace(data, test=None), layout, row, local, settings)
        self._personal = Personal(self._engine, self._judge, data)
        self.layout, self.history, self.stopped = layout, History(), False

    @property
    def chunk(self) -> int:
        """K, clients trained together; less than planned once memory has run out."""
        return self._engine.trainers.chunk

    @property
    def round(self) -> int:
        """Rounds done so far."""
        return len(self.history)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes (down, up) that a client and the server exchange per round, at least."""
        sizes = self.algorithm.traffic()
        model = sum(slot.length for slot in self.layout.slots)
        extra, item = self.layout.parameters, self.dtype.itemsize
        return tuple(item * (model + (n - 1) * extra) if n else 0 for n in sizes)  # type: ignore

    def __iter__(self) -> Iterator[Row]:
        """Train round by round, from where the simulation stands; yields each round's `Row`."""
        while self.round < self.rounds and not self.stopped:
            row = self._one_round()
            self.history.append(row)
            for callback in self.callbacks:
                callback(self, row)
            yield row

    def run(self, progress: bool = True, label: str | None = None) -> History:
        """Train to the end under a progress bar (plain lines without a terminal)."""
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
            samples = doors.test(test, self._engine.data, None, None, self.device, self.dtype)
        if samples is None:
            raise ValueError("test: the simulation has no test set; give one")
        with torch_threads(self.threads):
            return self._judge().evaluate(self._engine.state.row, samples)

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
        module = deepcopy(self._model)
        module.load_state_dict(self.state_dict())
        return module

    def save(self, path: str | Path) -> None:
        """Write the whole state, clients' rows and history included: `load` goes on from there."""
        saved.save(self, path)

    def load(self, path: str | Path) -> None:
        """Go on where `save` was called, bit for bit, perhaps to more rounds.

        Raises ValueError naming the file where it is of another run or no saved simulation.
        """
        saved.load(self, path)

    def _one_round(self) -> Row:
        t, lr = self.round, self._lr(self.round)
        begin = time.perf_counter()
        with torch_threads(self.threads), doors.own_random_state(self._engine.trainer.path.random):
            plan = self.schedule.round(t)
            rehearses = self.algorithm.server.rehearses
            rehearsal = self.schedule.round(t, exchange=1) if rehearses else None
            outcome = self._engine.round(t, plan, lr, rehearsal)
        seconds = time.perf_counter() - begin
        status = self._status(outcome)
        self.stopped = status != "ok" and self._on_divergence == "stop"
        if t + 1 == self.rounds and not self.stopped and self.algorithm.fine_tune is not None:
            random = self._engine.trainer.path.random
            with torch_threads(self.threads), doors.own_random_state(random):
                self._personal.fine_tune(t + 1, lr)
        accuracy, loss = self._evaluation(t)
        down, up = self.traffic
        return Row(
            round=t + 1,
            accuracy=accuracy,
            loss=loss,
            train_loss=outcome.train_loss,
            lr=lr,
            clients=len(plan.clients),
            samples=outcome.samples,
            update_norm=outcome.update_norm,
            update_norm_sum=outcome.norm_sum,
            scalars=" ".join(f"{k}={v!r}" for k, v in self._engine.state.scalars.items()),
            bytes_down=down * len(plan.clients),
            bytes_up=up * len(plan.clients),
            seconds=seconds,
            clients_per_second=len(plan.clients) / seconds,
            status=status,
            **(self.evaluate_clients().columns() if self._due(t) and self._personal.test else {}),
        )

    def _evaluation(self, t: int) -> tuple[float, float]:
        due = self._test is not None and self._due(t)
        return self.evaluate() if due else (math.nan, math.nan)

    def _due(self, t: int) -> bool:
        late = t + self._eval_last >= self.rounds
        return (t + 1) % self._eval_every == 0 or late or self.stopped

    def _status(self, outcome: Outcome) -> str:
        if outcome.diverged:
            shown = ", ".join(map(str, outcome.diverged[:5]))
            more = f" and {len(outcome.diverged) - 5} more" if len(outcome.diverged) > 5 else ""
            plural = "s" if len(outcome.diverged) > 1 else ""
            return f"diverged: client{plural} {shown}{more} non-finite"
        return "ok" if outcome.finite else "diverged: global model non-finite"
