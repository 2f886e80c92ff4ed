"""`Cohort`, the engine for a server loop of one's own: train these clients from this state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ._messages import format_value
from .algorithms import Algorithm
from .build import Components, build, memory_plan
from .client_samples import ClientSamples
from .cohort_call import LARGEST_ID, Batches, client_ids, epoch_counts, rates, some, written
from .cohort_options import CohortDesign, CohortOptions, few_of
from .cohort_samples import CallSamples, federated
from .cohort_state import StateRows, client_state, load_server_state, server_state
from .cohort_update import CohortUpdate
from .data import FederatedData
from .data._concatenate import by_client, check_client
from .declarations import documentation, takes
from .engine import Trained, Work
from .kernels.plan import forget_recording
from .layout import FlatLayout
from .model_inspection import single_sample_trouble
from .random import Ints
from .round_loop import training
from .validation.run import algorithm
from .validation.values import COUNT, integer

_TRAINING = Lock()  # torch's threads, random state and rounding are the whole process's


@dataclass(frozen=True)
class _Made:
    """What is made from the first samples.

    own    the cohort's own samples; given: [S], memory for a state that comes with a call
    """

    design: CohortDesign
    parts: Components
    own: ClientSamples | None
    call: CallSamples
    rows: StateRows
    given: Tensor

    @classmethod
    def of(cls, options: CohortOptions, samples: FederatedData) -> _Made:
        few = few_of(samples) if options.data is None else samples
        design, own = CohortDesign(options, few), None
        parts = build(design)
        parts.engine.models.wanted = True
        parts.engine.clients.widen(options.population or samples.num_clients)
        if options.data is not None:
            data, offsets = design.data, samples.offsets.to(design.device)
            own = ClientSamples(replace(data, offsets=offsets, sizes=samples.sizes))
        rows = StateRows(design.layout, design.module, design.device)
        return cls(design, parts, own, CallSamples(design), rows, torch.zeros_like(design.row))

    @cached_property
    def alone(self) -> str:
        """Why the model cannot be trained on a single sample, "" where it can."""
        return single_sample_trouble(self.design.module, self.design.trial[:1])

    def make_room(self, clients: int, width: int) -> None:
        """Buffers for so many clients at once, where memory has it, and batches as wide."""
        design, trainers = self.design, self.parts.engine.trainers
        if clients <= design.cohort and width <= design.width:
            return
        design.cohort, design.width = max(clients, design.cohort), max(width, design.width)
        trainers.forget()
        trainers.chunk = memory_plan(design).chunk
        self.parts.engine.batches.width = design.width
        self.parts.engine.models.least = design.cohort


class Cohort:
    __doc__ = f"""Models of one architecture, one per client, trained at once from a state.

    The engine of `Simulation` without its rounds: who trains, from which model, on what, and what
    becomes of the result is the caller's.

{documentation(CohortOptions)}

    A client's draws are by (seed, round, id): the same call gives the same bits, whoever trains
    beside, and the bits of a `Simulation`'s round.
    One call trains at a time in a process: calls of several cohorts wait for each other, a second
    call of the same one raises RuntimeError.
    Raises TypeError/ValueError naming the argument.
    """

    @takes(CohortOptions)
    def __init__(self, options: CohortOptions) -> None:
        self._options, self._calls = options, 0
        self._latest: CohortUpdate | None = None
        self._done: Trained | None = None
        self._busy = Lock()
        self._algorithm = algorithm(options.algorithm)
        self._made = None if options.data is None else _Made.of(options, options.data)

    @property
    def algorithm(self) -> Algorithm:
        """What clients train by."""
        return self._algorithm

    @property
    def layout(self) -> FlatLayout:
        """Where each tensor lies in a row [S]."""
        return self._needed.design.layout

    @property
    def generic_because(self) -> str:
        """Why clients train one by one through autograd; "" where a layer program trains them."""
        return self._needed.design.reason

    @property
    def chunk(self) -> int:
        """K, clients trained together in the latest call, or fewer where they were fewer."""
        return self._needed.parts.engine.trainers.chunk

    @property
    def _needed(self) -> _Made:
        if self._made is None:
            raise RuntimeError(
                "data: the cohort was made without samples, from which its layout follows; "
                "call train(data=...) first"
            )
        return self._made

    def train(
        self,
        ids: ArrayLike | None = None,
        state: Mapping[str, Tensor] | Tensor | None = None,
        *,
        data: FederatedData | Sequence[object] | None = None,
        batches: Sequence[Sequence[ArrayLike]] | None = None,
        lr: float | ArrayLike | None = None,
        epochs: int | ArrayLike | None = None,
        round: int | None = None,
    ) -> CohortUpdate:
        """Train clients from a state, each on its own samples.

        ids      [C] clients in any order, each once; None: all of `data`
        state    the model to start from, a state dict or a row [S]; None: the cohort's own
        data     samples of the C clients in this call: FederatedData of C clients, or one (x, y)
                 per client, of any sizes; None: the cohort's own
        batches  batches[j][s]: indices into the samples of client ids[j] at step s; None: drawn
        lr       learning rate, or one per client [C]; None: the cohort's
        epochs   passes over a client's samples, or of each client [C]; None: the cohort's
        round    key of the random draws, with seed and id; None: the number of calls before

        What the algorithm keeps of clients is committed at the end: a call that is broken off
        changes nothing but the models of the update before, which every call overwrites.
        A client without samples takes no step: its model is what was sent.
        """
        with self._alone():
            made, clients, samples = self._samples(ids, data)
            drawn = self._batches(made, clients, samples, batches, epochs)
            t = self._calls if round is None else _round(round)
            rate = rates(lr, made.design.lr(t) if lr is None else 0.0, len(clients))
            return self._train(made, drawn, samples, t, rate, state)

    def _samples(self, ids: object, data: object) -> tuple[_Made, Ints, ClientSamples]:
        if data is None:
            own = None if self._made is None else self._made.own
            if self._made is None or own is None:
                raise ValueError("data: the cohort has none of its own; give some with the call")
            count = own.data.num_clients
            return self._made, client_ids(ids, count, count), own
        many = data.num_clients if isinstance(data, FederatedData) else len(by_client("data", data))
        given = self._options
        known = given.population or (given.data.num_clients if given.data else LARGEST_ID + 1)
        clients = client_ids(ids, many, known)
        if self._made is None:
            self._made = _Made.of(given, federated(data))
        made = self._made
        made.parts.engine.clients.widen(int(clients.max()) + 1)
        return made, clients, made.call.of(clients, data)

    def _batches(
        self, made: _Made, ids: Ints, samples: ClientSamples, batches: object, epochs: object
    ) -> Batches:
        given, sizes = made.design.options, samples.sizes(ids)
        if batches is not None and epochs is not None:
            raise ValueError("epochs: expected None where batches are given")
        count = epoch_counts(epochs, given.local_epochs, len(ids))
        self.algorithm.check_run(int(np.max(count)), given.batch_size)
        own = None if batches is None else written(ids, sizes, batches)
        drawn = Batches(ids, sizes, count, given.seed, given.batch_size, given.drop_last, own)
        who = drawn.single(self.algorithm.drift.full_gradient)
        if who and made.alone:
            raise ValueError(
                f"data: {who} has a batch of one sample, on which the model cannot be trained "
                f"({made.alone}); drop_last=True leaves such batches out"
            )
        return drawn

    def _train(
        self,
        made: _Made,
        drawn: Batches,
        samples: ClientSamples,
        t: int,
        lr: float | np.ndarray,
        state: object,
    ) -> CohortUpdate:
        engine, ids = made.parts.engine, drawn.ids
        plan = drawn.round(t)
        at = np.flatnonzero(plan.steps)
        before = engine.state
        if state is not None:
            before = before.at(made.rows.write("state", state, before.row, made.given))
        self._latest = self._done = None  # its models are overwritten from here on
        made.make_room(len(ids), max(plan.width, made.design.width))
        forget_recording()
        made.parts.executor.pool.wait()
        if at.size == 0:
            return self._finished(made, drawn, None, before.row, at, plan.steps)
        rehearsal = some(drawn.round(t, 1), at) if self.algorithm.server.rehearses else None
        rate = lr if isinstance(lr, float) else lr[at]
        epochs = drawn.epochs if isinstance(drawn.epochs, int) else drawn.epochs[at]
        work = Work(t, some(plan, at), rate, epochs, len(engine.clients.slot), rehearsal)
        with training(made.parts):
            engine.read(samples)
            done = engine.train(work, before)
            if done.tally.diverged and samples is not made.own:
                made.call.check(samples)
            return self._finished(made, drawn, done, done.sent, at, plan.steps)

    def _finished(
        self,
        made: _Made,
        drawn: Batches,
        done: Trained | None,
        sent: Tensor,
        at: Ints,
        steps: Ints,
    ) -> CohortUpdate:
        """The update; the commit is its last statement but one."""
        engine, ids = made.parts.engine, drawn.ids
        start, many = sent.clone(), len(ids)
        losses = torch.full((2, many), torch.nan, dtype=torch.float64)
        place, diverged = np.arange(many), tuple[int, ...]()
        if done is None:
            rows = start.expand(many, -1).clone()
        else:
            first = at[done.order]
            rows = engine.rows_of(done, many)
            place = np.concatenate([first, np.setdiff1d(np.arange(many), at)])
            found = done.tally.train_losses, done.tally.step_losses
            losses[:, torch.from_numpy(first)] = torch.stack([torch.cat(t) for t in found]).cpu()
            diverged = tuple(done.tally.diverged)
        ordered = bool((place == np.arange(many)).all())
        where = None if ordered else torch.from_numpy(np.argsort(place)).to(rows.device)
        update = CohortUpdate(
            torch.from_numpy(ids), start, *losses, torch.from_numpy(drawn.sizes),
            torch.from_numpy(steps), diverged, made.rows, engine.backend, rows, where,
        )  # fmt: skip
        if done is not None:
            engine.committed = replace(engine.committed, clients=done.clients)
        self._calls, self._done, self._latest = self._calls + 1, done, update
        return update

    def step(self, update: CohortUpdate) -> None:
        """The algorithm's own server step, from the models of `update` as they are now.

        The new global model follows from the one that the clients were sent, and with it the
        server's state, as in a round of `Simulation`.
        Raises ValueError for any update but that of the latest `train`, and for it a second time;
        ArithmeticError where the new model is not finite: nothing has changed then.
        """
        with self._alone():
            if update is not self._latest or self._done is None:
                raise ValueError(
                    "update: expected that of the latest train, once, with a client that trained"
                )
            made, done = self._needed, self._done
            engine = made.parts.engine
            with training(made.parts):
                rows = update.processed()[: len(done.cohort)]
                outcome = engine.step(done, rows)
            if not outcome.finite:
                raise ArithmeticError("step: the new global model is not finite; nothing changed")
            engine.committed, self._done = outcome.after, None

    def state_dict(self) -> dict[str, Tensor]:
        """The global model, copies; loads into the user's own module."""
        if self._made is None:
            return {name: v.clone() for name, v in self._options.model.state_dict().items()}
        design = self._made.design
        return design.layout.state_dict(self._made.parts.engine.state.row, design.module)

    def load_state_dict(self, state: Mapping[str, Tensor] | Tensor) -> None:
        """Set the global model, from a state dict or a row [S]."""
        with self._alone():
            made, engine = self._needed, self._needed.parts.engine
            engine.next.follow(engine.state)
            made.rows.write("state", state, engine.state.row, engine.next.row)
            engine.committed = replace(engine.committed, server=engine.next)
            self._done = None

    def client_state(self, i: int) -> dict[str, Tensor]:
        """Copies of what the algorithm keeps of client `i`; {} for nothing, or not yet."""
        clients = self._needed.parts.engine.clients
        check_client(i, self._ids)
        return clients.state_of(i) if i < len(clients.slot) else {}

    def load_client_state(self, i: int, state: Mapping[str, Tensor]) -> None:
        """Set what `client_state` gave, {} for a client that has not taken part."""
        with self._alone():
            engine = self._needed.parts.engine
            check_client(i, self._ids)
            engine.clients.widen(i + 1)
            after = client_state(engine.clients, int(i), state)
            engine.committed = replace(engine.committed, clients=after)

    @property
    def _ids(self) -> int:
        """Ids are below it."""
        given, made = self._options, self._needed
        own = None if made.own is None else made.own.data.num_clients
        return given.population or own or LARGEST_ID + 1

    def server_state(self) -> dict[str, Tensor | float]:
        """Copies of what the server keeps beside the model, by name: tensors and numbers."""
        return server_state(self._needed.parts.engine.state)

    def load_server_state(self, state: Mapping[str, object]) -> None:
        """Set what `server_state` gave."""
        with self._alone():
            engine = self._needed.parts.engine
            engine.next.follow(engine.state)
            engine.next.row.copy_(engine.state.row)
            load_server_state(engine.next, state)
            engine.committed = replace(engine.committed, server=engine.next)
            self._done = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("cohort: it is training already, in another thread")
        try:
            with _TRAINING:
                yield
        finally:
            self._busy.release()


def _round(t: object) -> int:
    integer("round", t)
    if not 0 <= int(t) <= COUNT:  # type: ignore[call-overload]
        raise ValueError(f"round: expected 0 <= round <= {COUNT}; got {format_value(t)}")
    return int(t)  # type: ignore[call-overload, no-any-return]
