"""`Cohort`, the engine for a server loop of one's own: train these clients from this state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock

from numpy.typing import ArrayLike
from torch import Tensor

from .algorithms import Algorithm
from .client_samples import ClientSamples
from .cohort_call import LARGEST_ID, Ids, Numbers, client_ids, round_key
from .cohort_options import CohortOptions
from .cohort_parts import CohortParts
from .cohort_samples import entries, federated
from .cohort_state import client_state, load_server_state, server_state
from .cohort_update import CohortUpdate
from .data import FederatedData
from .data._concatenate import check_client
from .declarations import documentation, takes
from .layout import FlatLayout
from .random import Ints
from .round_records import Trained
from .validation.run import algorithm

_TRAINING = Lock()  # torch's threads, random state and rounding are the whole process's


class Cohort:
    __doc__ = f"""Models of one architecture, one per client, trained at once from a state.

    The engine of `Simulation` without its rounds: who trains, from which model, on what, and what
    becomes of the result is the caller's.

{documentation(CohortOptions)}

    A client's draws are by (seed, round, id): the same call gives the same bits, whoever trains
    beside, and those of a `Simulation`'s round.
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
        self._made = None if options.data is None else CohortParts.of(options, options.data)

    @property
    def algorithm(self) -> Algorithm:
        """What clients train by."""
        return self._algorithm

    @property
    def layout(self) -> FlatLayout:
        """Where each tensor lies in a row [S]."""
        return self._parts.design.layout

    @property
    def generic_because(self) -> str:
        """Why clients train one by one through autograd; "" where a layer program trains them."""
        return self._parts.design.reason

    @property
    def chunk(self) -> int:
        """K, the most clients trained together so far, as memory has it."""
        return self._parts.engine.trainers.chunk

    @property
    def _parts(self) -> CohortParts:
        if self._made is None:
            raise RuntimeError(
                "data: the cohort was made without samples, from which its layout follows; "
                "call train(data=...) first"
            )
        return self._made

    def train(
        self,
        ids: Ids | None = None,
        state: Mapping[str, Tensor] | Tensor | None = None,
        *,
        data: FederatedData | Sequence[object] | None = None,
        batches: Sequence[Sequence[ArrayLike]] | None = None,
        lr: float | Numbers | None = None,
        epochs: int | Numbers | None = None,
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

        What the algorithm keeps of clients changes at the end, all at once: a call that is broken
        off leaves it alone, but overwrites the models of the update before.
        A client that takes no step (no samples) has the model that was sent.
        """
        with self._alone():
            made, clients, samples = self._samples(ids, data)
            t = self._calls if round is None else round_key(round)
            call = made.described(t, clients, samples.sizes(clients), batches, lr, epochs)
            before = made.engine.state
            if state is not None:
                before = before.at(made.rows.write("state", state, before.row, made.given))
            self._forget()
            done = made.train(call, samples, before)
            update = made.update(call, done, before)
            if done is not None:
                made.engine.committed = replace(made.engine.committed, clients=done.clients)
            self._calls, self._done, self._latest = self._calls + 1, done, update
            return update

    def _samples(self, ids: Ids | None, data: object) -> tuple[CohortParts, Ints, ClientSamples]:
        """What the call trains on, copied where it comes with the call."""
        if data is None:
            if self._made is None or self._made.own is None:
                raise ValueError("data: the cohort has none of its own; give some with the call")
            known = self._made.own.data.num_clients
            return self._made, client_ids(ids, known, known), self._made.own
        given = entries(data)
        clients = client_ids(ids, len(given), self._known)
        if self._made is None:
            self._made = CohortParts.of(self._options, federated(given, self._options.dtype))
        self._made.engine.clients.widen(int(clients.max()) + 1)
        return self._made, clients, self._made.call.of(clients, given)

    @property
    def _known(self) -> int:
        """Clients' ids are below it."""
        given = self._options
        return given.population or (given.data.num_clients if given.data else LARGEST_ID + 1)

    def _forget(self) -> None:
        """The models of the latest update are overwritten from here on."""
        if self._latest is not None:
            self._latest.rows.overwritten = True
        self._latest = self._done = None

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
            self._parts.step(self._done, update.rows.as_processed())
            self._done = None

    def state_dict(self) -> dict[str, Tensor]:
        """The global model, copies; loads into the user's own module."""
        if self._made is None:
            return {name: v.clone() for name, v in self._options.model.state_dict().items()}
        design = self._made.design
        return design.layout.state_dict(self._made.engine.state.row, design.module)

    def load_state_dict(self, state: Mapping[str, Tensor] | Tensor) -> None:
        """Set the global model, from a state dict or a row [S]."""
        with self._alone():
            made, engine = self._parts, self._parts.engine
            engine.next.follow(engine.state)
            made.rows.write("state", state, engine.state.row, engine.next.row)
            self._commit_next(made)

    def client_state(self, i: int) -> dict[str, Tensor]:
        """Copies of what the algorithm keeps of client `i`; {} for nothing, or not yet.

        Rows are flat, `layout.views(row, trained_only=True)` names their parts.
        """
        check_client(i, self._known)
        clients = self._parts.engine.clients
        return clients.state_of(i) if i < clients.population else {}

    def load_client_state(self, i: int, state: Mapping[str, Tensor]) -> None:
        """Set what `client_state` gave, {} for a client that has not taken part."""
        check_client(i, self._known)
        with self._alone():
            engine = self._parts.engine
            engine.clients.widen(i + 1)
            after = client_state(engine.clients, int(i), state)
            engine.committed = replace(engine.committed, clients=after)

    def server_state(self) -> dict[str, Tensor | float]:
        """Copies of what the server keeps beside the model, by name: flat rows, and numbers."""
        return server_state(self._parts.engine.state)

    def load_server_state(self, state: Mapping[str, object]) -> None:
        """Set what `server_state` gave."""
        with self._alone():
            engine = self._parts.engine
            engine.next.follow(engine.state)
            engine.next.row.copy_(engine.state.row)
            load_server_state(engine.next, state)
            self._commit_next(self._parts)

    def _commit_next(self, made: CohortParts) -> None:
        made.engine.committed = replace(made.engine.committed, server=made.engine.next)
        self._done = None  # its step would follow from a state whose memory is the next one now

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("cohort: it is training already, in another thread")
        try:
            with _TRAINING:
                yield
        finally:
            self._busy.release()
