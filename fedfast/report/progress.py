"""Shows a run while it goes on: a bar on a terminal or in a notebook, lines of text elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from ..history import Row

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

REFRESH = 0.1  # seconds between two states of the bar: a second may have hundreds of rounds
PATIENCE = 30.0  # seconds without a line after which the next round gets one


class Progress:
    """`with Progress(rounds, "fedsam") as show:` then `show(row)` after each round.

    On a terminal: one line with bar, round, accuracy, loss, clients/s and time left, which stays
    when the run ends. In a notebook the same line is the cell's output. Otherwise (a file, a pipe):
    one line each tenth of the rounds, at least every 30 s, for the last round and wherever a
    round's status is not ok.
    """

    def __init__(self, rounds: int, label: str = "", stream: TextIO | None = None) -> None:
        self.rounds, self.label = rounds, label
        self.stream = sys.stdout if stream is None else stream
        console = Console(file=self.stream)
        kind = _kind(console, stream)
        self.bar = None if kind is None else _bar(console, kind)
        self.task = self.bar.add_task(label, total=rounds, row=None) if self.bar else None
        self.accuracy = self.loss = math.nan
        self.tested = 0  # the round they are of
        self.began = self.printed = time.monotonic()
        self.first: int | None = None
        self.row: Row | None = None

    def __enter__(self) -> Progress:
        self.began = self.printed = time.monotonic()
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar:
            self._draw()
            self.bar.stop()

    def __call__(self, row: Row) -> None:
        """Shows the round just finished. Between two tests the last accuracy stays in view."""
        self.row = row
        self.first = row.round if self.first is None else self.first
        if not (math.isnan(row.accuracy) and math.isnan(row.loss)):
            self.accuracy, self.loss, self.tested = row.accuracy, row.loss, row.round
        now = time.monotonic()
        if self.bar:
            if row.status != "ok":
                self.bar.console.print(Text(f"{self.label} round {row.round}: {row.status}"))
            if now - self.printed >= REFRESH:
                self.printed = now
                self._draw()
        elif self._due(row, now):
            self.printed = now
            print(self._line(row, now), file=self.stream, flush=True)

    def _due(self, row: Row, now: float) -> bool:
        step = max(1, round(self.rounds / 10))
        last = row.round >= self.rounds or row.round % step == 0
        return last or row.status != "ok" or now - self.printed >= PATIENCE

    def _line(self, row: Row, now: float) -> str:
        parts = [f"round={row.round}/{self.rounds}", *self._numbers(row)]
        if self.first is not None and row.round < self.rounds:
            pace = (now - self.began) / (row.round - self.first + 1)
            parts.append(f"eta={_clock(pace * (self.rounds - row.round))}")
        if row.status != "ok":
            parts.append(f'status="{row.status}"')
        return " ".join([self.label or "run", *parts])

    def _numbers(self, row: Row) -> list[str]:
        numbers = [f"train_loss={row.train_loss:.4g}", f"clients/s={row.clients_per_second:.4g}"]
        if math.isnan(self.accuracy) and math.isnan(self.loss):
            return numbers
        when = [] if self.tested == row.round else [f"tested_in={self.tested}"]
        right = [] if math.isnan(self.accuracy) else [f"accuracy={self.accuracy:.4f}"]
        return [*right, f"loss={self.loss:.4g}", *when, *numbers]

    def _draw(self) -> None:
        if self.bar is not None and self.task is not None and self.row is not None:
            row = (self.row, self.accuracy, self.loss)
            self.bar.update(self.task, completed=self.row.round, row=row)
            self.bar.refresh()


class NarrowBar(Bar):
    """A bar that ends before the last columns: the `^C` a terminal echoes there would break it."""

    def __init__(self, console: Console, *columns: ProgressColumn, refresh: float) -> None:
        self.wide = console  # rich asks for renderables before it has set `self.console`
        super().__init__(*columns, console=console, expand=True, refresh_per_second=refresh)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield Constrain(self.make_tasks_table(self.tasks), self.wide.width - 3)


class _NotebookBar(NarrowBar):
    """The bar as one output of a cell, replaced in place: a notebook needs no widgets for that."""

    handle: DisplayHandle | None = None

    def start(self) -> None:
        from IPython.display import display

        self.handle = display(self, display_id=True)

    def refresh(self) -> None:
        if self.handle is not None:
            self.handle.update(self)

    def stop(self) -> None:
        """The last state stays."""


class _Numbers(TextColumn):
    """The numbers at the right of the bar, in columns of fixed width so that nothing jumps."""

    def __init__(self, console: Console) -> None:
        super().__init__("")
        self.console = console

    def render(self, task: Task) -> Text:
        state = task.fields["row"]
        if state is None:
            return Text("starting", style="dim")
        row, accuracy, loss = state
        lost = row.train_loss if math.isnan(loss) else loss
        text = Text("" if math.isnan(accuracy) else f"{accuracy:6.2%}  ", "bold green")
        text = Text.assemble(text, f"loss {lost:<7.4g}" if math.isfinite(lost) else "loss –      ")
        if self.console.width > 70:
            text.append(f" {row.clients_per_second:>7,.0f} clients/s", "cyan")
        left = task.time_remaining
        when = f"eta {_clock(left)}" if not task.finished else f"{_clock(task.elapsed)} in all"
        text.append(f"  {when:<11}", "dim")
        return text


def _kind(console: Console, stream: TextIO | None) -> type[NarrowBar] | None:
    """The kind of bar that can be shown, None for lines; a stream of the user's gets lines."""
    if console.is_jupyter and stream is None:
        return _NotebookBar
    return NarrowBar if console.file.isatty() and not console.is_dumb_terminal else None


def _bar(console: Console, kind: type[NarrowBar]) -> Bar:
    return kind(
        console,
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        _Numbers(console),
        refresh=2,  # keeps the clock going in rounds that take minutes
    )


def _clock(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
