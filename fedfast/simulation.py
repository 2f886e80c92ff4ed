"""`Simulation`, the public class: built from options, trained round by round, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from . import callbacks, checkpoint, round_loop
from ._messages import format_value
from ._renamed_modules import names_of
from .build import build
from .client_scores import ClientScores
from .copies import copy_of
from .declarations import documentation, takes
from .design import Design
from .distributed.crew import Crew
from .fusion_rules import eager_because
from .history import FIELDS, History, Row
from .kernels.choices import precision_of
from .options import SimulationOptions
from .validation import data as data_checks
from .validation.values import boolean

__getattr__ = names_of(__name__)


class Simulation:
    __doc__ = f"""Federated training of one model by one algorithm.

{documentation(SimulationOptions)}

    Models that `fedfast.programs` can trace train layer by layer for K clients at once; others
    train client by client, and `generic_because` is the reason ("" for a program). On CUDA a
    program's step is one graph, unless `eager_because` says why not.
    Raises TypeError/ValueError naming the argument, before any training.
    """

    @takes(SimulationOptions)
    def __init__(self, options: SimulationOptions) -> None:
        self._design = design = Design(options)
        self._components = parts = build(design)
        self._engine, self._personal, self.memory = parts.engine, parts.personal, parts.memory
        self.rows = parts.rows
        self.device, self.dtype, self.threads = design.device, design.dtype, design.threads
        self.algorithm, self.callbacks = design.algorithm, design.callbacks
        self.rounds, self.schedule = design.rounds, design.schedule
        self.generic_because, self.layout = design.reason, design.layout
        self.eager_because = eager_because(design.algorithm)
        self.crew = None if design.ranks is None else Crew(design.ranks, parts)
        self._history, self._stopping = History(), False
        self.info = callbacks.RunInfo(self.algorithm.name)
        self.stop_reason = ""

    def _repr_html_(self) -> str:
        """What notebooks show: what is trained, how, and how far it is."""
        from .report import html

        design, done = self._design, self.history
        model = f"{type(design.module).__name__}, {self.layout.parameters:,} parameters"
        slower = f"module executor: {self.generic_because}"
        facts = {
            "algorithm": self.algorithm.name,
            "model": model,
            "clients": f"{design.data.num_clients:,}, {self.schedule.largest_cohort:,} per round",
            "executor": slower if self.generic_because else "layer program",
            "memory": str(self.memory),
            **({"client rows": str(self.rows)} if str(self.rows) else {}),
            "on": f"{self.device}, {str(self.dtype).removeprefix('torch.')}",
            "precision": self.precision,
        }
        about = f"{self.round:,} of {self.rounds:,} rounds{', stopped' if self.stopped else ''}"
        return html.panel("Simulation", about, facts, *([done._repr_html_()] if done else []))

    @property
    def chunk(self) -> int:
        """K, clients trained together; less than planned once memory has run out."""
        return self._engine.trainers.chunk

    @property
    def resident(self) -> bool:
        """Whether all local steps of a client are one launch on the GPU (docs/gpu.md)."""
        return self._engine.trainer.fusions.resident

    @property
    def precision(self) -> str:
        """How far float32 products are rounded: "fp32", "tf32x3", "tf32", "bf16" (docs/gpu.md).

        "fp64" where weights are float64, whose products no option rounds.
        """
        return precision_of(self._design.precision, self.dtype)

    @property
    def products(self) -> dict[str, str]:
        """By layer, what forms its products on CUDA: Triton or a library (docs/gpu.md)."""
        return self._engine.trainer.executor.products()

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
        """Whether the run ended early because a model became non-finite (see also `stop`)."""
        return self._engine.committed.stopped

    @property
    def has_tests(self) -> bool:
        """Whether models are tested: on a global test set or the clients' own test parts."""
        return self._design.test is not None or self._personal.test is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the history has or will have: those of every run, then of its `metrics`."""
        return *FIELDS, *(name for m in self._design.round_metrics for name in m.columns)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes (down, up) that a client and the server exchange per round, at least."""
        return round_loop.traffic(self._design)

    def __iter__(self) -> Generator[Row, None, None]:
        """Train round by round, from the last complete round on; yields each round's `Row`.

        A round happens whole or not at all: where an exception or a signal breaks it off, the
        simulation is where the round before has left it, and iterating again repeats the round.
        Callbacks follow the round: what they raise does not undo it, and they are not called again.
        """
        self._stopping = False
        self.stop_reason = ""
        if self.crew is not None and not self.crew.ranks.first:
            with round_loop.draws_ahead(self._components):
                yield from self.crew.rounds()
            return
        if not self._goes_on():
            return
        with (
            callbacks.following(self.callbacks, self, self.info),
            round_loop.draws_ahead(self._components),
            self._leading() as train,
        ):
            while self._goes_on():
                row = train()
                for callback in self.callbacks:
                    callbacks.call(callback, "on_round_end", self, row)
                    if row.evaluated:
                        callbacks.call(callback, "on_evaluate", self, row)
                yield row

    @contextmanager
    def _leading(self) -> Iterator[Callable[[], Row]]:
        """What trains a round, with the other ranks if there are any."""
        if self.crew is None:
            yield partial(round_loop.next_round, self._components)
            return
        with self.crew.leading():
            yield self.crew.round

    def stop(self, reason: str = "") -> None:
        """End the run after the current round: from a callback, a loop or another thread.

        It ends what is under way; `run()` or another loop goes on.

        reason  for people, kept in `stop_reason` until the run goes on
        """
        if not isinstance(reason, str):
            raise TypeError(f"reason: expected a text; got {format_value(reason)}")
        self.stop_reason = reason or "sim.stop()"
        self._stopping = True

    def _goes_on(self) -> bool:
        return self.round < self.rounds and not self.stopped and not self._stopping

    def run(self, progress: bool = True, label: str | None = None) -> History:
        """Train to the end under a progress bar (plain lines without a terminal).

        label  text before it; None takes the algorithm's name
        """
        boolean("progress", progress)
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
        given = self._design
        samples = given.test
        if test is not None:
            samples = data_checks.test(test, given.data, given.tried, self.device, self.dtype)
        if samples is None:
            raise ValueError("test: the simulation has no test set; give one")
        return round_loop.evaluate(self._components, self._engine.state.row, samples)

    def evaluate_clients(self) -> ClientScores:
        """The global and the personal models on each client's own test part, losses too.

        Raises ValueError where the clients have no test parts.
        """
        kept = self._engine.committed.scores
        if kept is not None:
            return kept
        if self.crew is not None:
            return self.crew.scores()
        return round_loop.evaluate_clients(self._components, self._engine.committed, True)

    def client_state_dict(self, i: int) -> dict[str, Tensor]:
        """The personal model of client `i`; loads into the user's own module.

        Raises ValueError where the algorithm keeps none, or not yet (fine-tuning comes last).
        """
        row = self._personal.row if self.crew is None else self.crew.row
        return self.layout.state_dict(row(i), self._design.module)

    def state_dict(self) -> dict[str, Tensor]:
        """The global model; loads into the user's own module."""
        return self.layout.state_dict(self._engine.state.row, self._design.module)

    def model(self) -> nn.Module:
        """A copy of the user's module that holds the global model."""
        module = copy_of(self._design.module)
        self.layout.write(self._engine.state.row, module)
        return module

    def save(self, path: str | Path) -> None:
        """Write the whole state, clients' rows and history included: `load` goes on from there.

        A state that is there already is kept as `PATH.previous`; `load` takes it where the newest
        is damaged. Raises OSError naming the file where it cannot be written.
        """
        if self.crew is not None and not self.crew.ranks.first:
            self.crew.save(path)
            return
        for callback in self.callbacks:
            callbacks.call(callback, "on_save", self)
        if self.crew is not None:
            self.crew.save(path)
        else:
            checkpoint.save(self._components, path)

    def load(self, path: str | Path) -> None:
        """Go on where `save` was called, bit for bit, perhaps to more rounds.

        The simulation must be made with the same arguments. Free are `rounds`, `callbacks`,
        `eval_every`, `eval_last`, `metric`, `verify`, `empty_clients`, and `device`, `backend`,
        `threads`, `chunk`, `memory`, `client_rows`, `client_rows_folder`; a callable `lr` must
        return what it did for the rounds done. Of `precision`, "auto", "fp32" and "tf32x3" are one.
        Taken on to more rounds, what only the earlier end has brought is gone: tuned models, and
        figures of rounds that are not evaluated otherwise.
        Raises ValueError naming the file, and all that differs, where it is of another run or no
        saved simulation; nothing has changed then. Warns where it takes the state before the
        newest, which is damaged.
        """
        self._load(path, False)

    def _load(self, path: str | Path, all_figures: bool) -> None:
        """See `checkpoint.load`."""
        if self.crew is not None:
            self.crew.load(path, all_figures)
        else:
            checkpoint.load(self._components, path, all_figures)
