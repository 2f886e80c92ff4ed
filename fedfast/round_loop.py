"""One round of a simulation: local steps, the server's step, evaluation, the row of the history."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .ahead import preparing
from .build import Components
from .client_scores import ClientScores
from .data import Samples
from .data.client_parts import spans
from .design import Design
from .frozen import changed
from .history import Row
from .kernels.overlap import apart_by_construction
from .kernels.plan import forget_recording
from .kernels.threads import thread_count
from .pending import Pending, both, known
from .phases import span, timed
from .random_state import kept_random_state, seed_all
from .round_records import Outcome
from .state import Committed
from .torch_settings import rounding, torch_threads, usual, usual_modes


def next_round(parts: Components) -> Row:
    """Train the next round. Its last statement but one commits it: until then nothing changes."""
    engine = parts.engine
    t = len(engine.committed.rows)
    lr = parts.design.lr(t)
    forget_recording()
    parts.executor.pool.wait()
    begin = time.perf_counter()
    with span(f"round {t + 1}"), training(parts):
        _read_ahead(parts, t)
        clients, outcome = parts.steady.round(t, lr) or _round(parts, t, lr)
    seconds = time.perf_counter() - begin
    after = _concluded(parts, t, lr, outcome)
    row, scores = _row(parts, lr, clients, outcome, after, seconds)
    engine.committed = changed(after, rows=after.rows.followed_by(row), scores=scores)
    return row


def _round(parts: Components, t: int, lr: float) -> tuple[int, Outcome]:
    """(clients, what round `t` did) of any run."""
    schedule, engine = parts.schedule, parts.engine
    cohort, rehearses = schedule.round(t), engine.algorithm.server.rehearses
    rehearsal = schedule.round(t, exchange=1) if rehearses else None
    done = engine.round(t, cohort, lr, rehearsal, _following(parts, t))
    return len(cohort.clients), done


def _read_ahead(parts: Components, t: int) -> None:
    """Have the samples of the next round read, where they lie in a file, while `t` is trained."""
    pages, data = parts.pages, parts.design.data
    if pages.file is None:
        return
    for round in (t, t + 1) if t == 0 else (t + 1,):
        if round < parts.design.schedule.rounds:
            clients = parts.schedule.round(round).clients
            first = data.offsets[torch.from_numpy(clients)].numpy()
            pages.ask(data.order[torch.from_numpy(spans(first, data.sizes[clients]))])


def _following(parts: Components, t: int) -> np.ndarray | None:
    """The clients of the round after `t`, where their rows have to be fetched."""
    last = t + 1 == parts.design.rounds
    return None if last or not parts.fetches else parts.schedule.round(t + 1).clients


def draws_ahead(parts: Components) -> AbstractContextManager[None]:
    """Inside, a thread draws what the next round trains on; it ends with the block."""
    engine = parts.engine
    return preparing(parts.schedule, engine.batches, engine.algorithm.server.rehearses)


@contextmanager
def training(parts: Components) -> Iterator[None]:
    """Torch's threads, modes, random numbers and precision, as local steps need them."""
    engine, design = parts.engine, parts.design
    executor, foreign = engine.trainer.executor, engine.hooks.foreign
    # The flags are of CUDA's libraries; code of the user's may read them.
    own = design.program is not None and design.device.type == "cpu"
    with ExitStack() as needed:
        if not usual():
            needed.enter_context(usual_modes())
        # Torch's threads spin for milliseconds after an operation on a row, on cores that those of
        # the compiled module are to have.
        alone = executor.capabilities.plans and not foreign
        needed.enter_context(torch_threads(1 if alone else design.threads))
        needed.enter_context(thread_count(design.threads))
        if executor.random:
            needed.enter_context(kept_random_state())
        if not own:
            needed.enter_context(rounding(parts.executor.precision))
        # Buffers of the run do not overlap; what an algorithm of the user's hands over may.
        needed.enter_context(apart_by_construction(not foreign))
        yield


def evaluate(parts: Components, row: Tensor, samples: Samples) -> tuple[float, float]:
    """(accuracy, loss) of the model in `row` [S]; a loss that draws does so alike every time.

    Modules that draw are seeded by the module's executor, batch by batch.
    """
    return _begun(parts, row, samples).read()


def evaluate_clients(parts: Components, state: Committed, losses: bool) -> ClientScores:
    """The models of `state` on the clients' own test parts."""
    return _begun_clients(parts, state, losses).read()


def _begun(parts: Components, row: Tensor, samples: Samples) -> Pending[tuple[float, float]]:
    with _testing(parts):
        return parts.evaluator().begun(row, samples)


def _begun_clients(parts: Components, state: Committed, losses: bool) -> Pending[ClientScores]:
    with _testing(parts):
        return parts.personal.begun(state, losses)


@contextmanager
def _testing(parts: Components) -> Iterator[None]:
    with usual_modes(), torch_threads(parts.design.threads):
        if not parts.design.tried.random:
            yield
            return
        with kept_random_state():
            seed_all(parts.executor.evaluator.seed)
            yield


def traffic(design: Design) -> tuple[int, int]:
    """Bytes (down, up) that a client and the server exchange per round, at least."""

    def size(models: int) -> int:
        more = (models - 1) * design.layout.parameters
        return design.dtype.itemsize * (design.numbers + more) if models else 0

    down, up = design.algorithm.traffic()
    return size(down), size(up)


def _concluded(parts: Components, t: int, lr: float, outcome: Outcome) -> Committed:
    """The state after round `t`, with what the last round adds to it."""
    design = parts.design
    stops = _status(outcome) != "ok" and design.options.on_divergence == "stop"
    after, last = outcome.after, t + 1 == design.rounds
    if stops != after.stopped or after.tuned is not None:
        after = changed(after, stopped=stops, tuned=None)
    if not last or stops or design.algorithm.fine_tune is None:
        return after
    with training(parts):
        return changed(after, tuned=parts.personal.fine_tune(after.server.row, t + 1, lr))


def _row(
    parts: Components, lr: float, clients: int, outcome: Outcome, after: Committed, seconds: float
) -> tuple[Row, ClientScores | None]:
    """The round's row, and the clients' scores where they are kept."""
    t = len(after.rows)
    (down, up), (figures, scores) = traffic(parts.design), _evaluation(parts, t, after)
    row = Row(
        round=t + 1,
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
        status=_status(outcome),
        server_seconds=outcome.server_seconds,
        measured=outcome.measured,
        **figures,
        **(scores.columns() if scores else {}),
    )
    return row, scores if parts.design.options.client_metrics else None


@timed("evaluate")
def _evaluation(
    parts: Components, t: int, after: Committed
) -> tuple[dict[str, float], ClientScores | None]:
    """(columns of the global test, scores on the clients' own test parts) of a state not committed
    yet; nothing where it is not tested."""
    design, personal = parts.design, parts.personal
    if not (design.evaluates(t) or after.stopped) or (design.test is None and not personal.test):
        return {}, None
    begin, test = time.perf_counter(), _begun_test(parts, after.server.row)
    clients: Pending[ClientScores | None] = known(None)
    if personal.test:
        clients = _begun_clients(parts, after, design.options.client_metrics)
    found, scores = both(test, clients).read()
    return found | {"evaluation_seconds": time.perf_counter() - begin}, scores


def _begun_test(parts: Components, row: Tensor) -> Pending[dict[str, float]]:
    """The columns of the global test, where there is one."""
    test, ranks = parts.design.test, parts.design.ranks
    if test is None:
        return known({})
    if ranks is None:
        asked = _begun(parts, row, test)
    else:
        asked = known(ranks.of_first(partial(evaluate, parts, row, test)))
    return asked.then(lambda found: dict(zip(("accuracy", "loss"), found, strict=True)))


def _status(outcome: Outcome) -> str:
    if not outcome.diverged:
        return "ok" if outcome.finite else "diverged: global model non-finite"
    ids = ", ".join(map(str, outcome.diverged[:5]))
    more = f" and {len(outcome.diverged) - 5} more" if len(outcome.diverged) > 5 else ""
    plural = "s" if len(outcome.diverged) > 1 else ""
    return f"diverged: client{plural} {ids}{more} non-finite"
