"""What a run leaves behind: one `Row` per round, and `History`, the list of them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ._messages import format_value, path_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Row:
    """One round, seen after it. Where a round was not tested, accuracy and loss are nan."""

    round: int  # completed rounds, this one included
    accuracy: float = math.nan  # of the global model on the test set, 0 to 1
    loss: float = math.nan  # of the global model on the test set
    train_loss: float = math.nan  # mean over the cohort's local steps
    lr: float = math.nan  # local learning rate of this round
    clients: int = 0  # that trained
    samples: int = 0  # that those clients hold
    update_norm: float = math.nan  # of the step the global model made
    seconds: float = math.nan  # wall clock of local training and the server's step
    clients_per_second: float = math.nan
    status: str = "ok"  # or what went wrong: "diverged: client 7 non-finite"
    bytes_down: int = 0  # sent to the cohort, at least: models and what the algorithm adds to them
    bytes_up: int = 0  # and received from it
    personal_accuracy: float = math.nan  # personal models on their clients' test parts, mean
    personal_pooled: float = math.nan  # the same, all test parts' samples alike
    local_accuracy: float = math.nan  # the global model on the clients' test parts, mean
    pooled_accuracy: float = math.nan  # the same, all test parts' samples alike
    update_norm_sum: float = math.nan  # sum over tensors of the norms of the mean update
    scalars: str = ""  # what the algorithm counts or adapts, "conflicts_before=3 alpha=0.1"
    server_seconds: float = math.nan  # of `seconds`, after the last client's training
    evaluation_seconds: float = math.nan  # of the tests after the round, no part of `seconds`
    local_std: float = math.nan  # over clients, of the accuracies that local_accuracy is mean of
    local_worst: float = math.nan  # mean of the lowest tenth of them, rounded up to whole clients
    personal_std: float = math.nan  # the same of personal_accuracy
    personal_worst: float = math.nan
    # What the run's `metrics` have measured, a column of the file for each.
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def evaluated(self) -> bool:
        """Whether models were tested after the round, on a test set or the clients' own parts."""
        figures = self.accuracy, self.loss, self.local_accuracy, self.personal_accuracy
        return not all(map(math.isnan, figures))


FIELDS = tuple(f.name for f in fields(Row) if f.name != "measured")
LATER = FIELDS[FIELDS.index("scalars") + 1 :]  # files of older versions lack these
KINDS = {"int": int, "float": float, "str": str}
READ = {f.name: KINDS[str(f.type)] for f in fields(Row) if f.name in FIELDS}
NAME_OF_COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def columns_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """The columns that a file of these rows has: `FIELDS`, then those of metrics."""
    return (*FIELDS, *dict.fromkeys(name for row in rows for name in row.measured))


def cells(row: Row, names: Iterable[str]) -> list[object]:
    """A row's values in these columns, nan for a metric that it lacks."""
    return [getattr(row, n) if n in READ else row.measured.get(n, math.nan) for n in names]


class Rows(Sequence[Row]):
    """Rows that do not change; others that follow them share their memory: a run's rounds would
    copy all rows each otherwise."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._shared = list(rows)
        self._count = len(self._shared)

    def followed_by(self, row: Row) -> Rows:
        """These and one more."""
        made = Rows.__new__(Rows)
        # Where others follow these already, or a signal came in between, these are copied.
        alone = len(self._shared) == self._count
        made._shared = self._shared if alone else self._shared[: self._count]
        made._shared.append(row)
        made._count = self._count + 1
        return made

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, at: int | slice) -> Row | tuple[Row, ...]:
        if isinstance(at, slice):
            return tuple(self._shared[: self._count][at])
        if not -self._count <= at < self._count:
            raise IndexError(f"expected a row below {self._count}; got {at}")
        return self._shared[at % self._count]


class History:
    """The rows of one algorithm's run, oldest first; behaves like a list of them."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows = list(rows)

    def append(self, row: Row) -> None:
        """Adds the newest round."""
        self.rows.append(row)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> History: ...
    def __getitem__(self, at: int | slice) -> Row | History:
        return History(self.rows[at]) if isinstance(at, slice) else self.rows[at]

    def __repr__(self) -> str:
        return f"History({len(self)} rounds{f', last {self.rows[-1]}' if self.rows else ''})"

    def _repr_html_(self) -> str:
        """What notebooks show: the first, the best and the last round tested, and a curve."""
        from .report import html

        tested = self.tested().rows or self.rows
        known = [row for row in tested if not math.isnan(row.accuracy)]
        best = [max(known, key=lambda row: row.accuracy)] if known else []
        chosen = {"first": tested[:1], "best": best, "last": tested[-1:]}
        rows = [(name, *_figures(row)) for name, found in chosen.items() for row in found]
        measured = [
            n for n in ("accuracy", "loss", "train_loss") if any(map(_known, self.column(n)))
        ]
        pictures = [html.curve(name, self.column(name)) for name in measured[:1]]
        heads = ("", "round", "accuracy", "loss", "train loss", "seconds", "status")
        parts = (html.table(heads, rows), *pictures) if rows else ()
        return html.panel("History", f"{len(self)} rounds", {}, *parts)

    def column(self, name: str) -> list[Any]:
        """One field over all rounds, or one column of metrics, nan where a row lacks it."""
        if not isinstance(name, str) or name not in self.columns:
            raise ValueError(
                f"name: expected one of {', '.join(self.columns)}, found {format_value(name)}"
            )
        return [cells(row, (name,))[0] for row in self.rows]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: those of every history, then those of the run's metrics."""
        return columns_of(self.rows)

    def scalar(self, name: str) -> list[float]:
        """One of the algorithm's own numbers over all rounds, nan where a row lacks it."""
        if not isinstance(name, str):
            raise TypeError(f"name: expected a word; got {format_value(name)}")
        found = [dict(pair.split("=") for pair in row.scalars.split()) for row in self.rows]
        return [float(pairs.get(name, "nan")) for pairs in found]

    def last(self) -> Row:
        """The newest row. Raises ValueError where there is none."""
        if not self.rows:
            raise ValueError("history: expected at least one round, found none")
        return self.rows[-1]

    def tested(self) -> History:
        """The rows in which the global model was tested."""
        return History(r for r in self.rows if not (math.isnan(r.accuracy) and math.isnan(r.loss)))

    def best(self) -> Row:
        """The row of the highest accuracy, the first of equals. Raises ValueError without any."""
        if not self.tested():
            raise ValueError("history: expected a tested round, found none: give a test set")
        rows = [row for row in self.rows if not math.isnan(row.accuracy)]
        if not rows:
            raise ValueError("history: expected accuracies, found none: the task has a loss alone")
        return max(rows, key=lambda row: row.accuracy)

    def to_csv(self, path: str | Path) -> None:
        """Writes a header and one line per round; `from_csv` reads exactly the same rows back."""
        path_of("path", path).write_text(self.csv(), encoding="utf-8", newline="")

    def csv(self) -> str:
        """What `to_csv` writes."""
        names = self.columns
        return line(names) + "".join(line(cells(row, names)) for row in self.rows)

    @classmethod
    def from_csv(cls, path: str | Path) -> History:
        """Reads what `to_csv` wrote, or a run folder's file where it holds one algorithm."""
        found = read_runs(path)
        if len(found) > 1:
            raise ValueError(
                f"{path}: expected one algorithm, found {', '.join(found)}: use read_runs"
            )
        return next(iter(found.values()), cls())

    def to_pandas(self) -> pd.DataFrame:
        """A DataFrame with one line per round, indexed by `round`."""
        import pandas as pd

        columns = {name: self.column(name) for name in self.columns}
        return pd.DataFrame(columns).set_index("round")

    def plot(self, path: str | Path | None = None, label: str = "run") -> Figure:
        """Accuracy and loss per round: the matplotlib Figure, also written to `path` if given."""
        from .report.plots import curves

        if not isinstance(label, str):
            raise TypeError(f"label: expected a word; got {format_value(label)}")

        return curves({label: self}, path)


def _known(value: float) -> bool:
    return not math.isnan(value)


def _figures(row: Row) -> list[str]:
    """A round's figures as text, "–" where it has none."""
    right = f"{row.accuracy:.2%}" if _known(row.accuracy) else "–"
    others = (row.loss, row.train_loss, row.seconds)
    texts = [f"{value:.4g}" if _known(value) else "–" for value in others]
    return [str(row.round), right, *texts, row.status]


def line(values: Iterable[object]) -> str:
    """One CSV line. Floats are written by `repr`, which `float` reads back exactly."""
    return lines([values])


def lines(rows: Iterable[Iterable[object]]) -> str:
    """Many lines, as `line` writes each of them."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in rows:
        writer.writerow([repr(value) if isinstance(value, float) else value for value in row])
    return buffer.getvalue()


def read_runs(path: str | Path) -> dict[str, History]:
    """Algorithm label -> History from a run folder's `history.csv`.

    A last line without its end (the process was killed while writing) is left out. A file without
    an `algorithm` column is one run, labelled with the file's name. Columns that an older version
    did not write have their defaults.
    """
    path = path_of("path", path)
    try:
        text = path.read_bytes().decode("utf-8")
        reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        names, lines = reader.fieldnames or (), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a CSV file in UTF-8: {error}") from error
    missing = [name for name in FIELDS if name not in (*names, *LATER)]
    if missing:
        raise ValueError(f"{path}: expected columns {', '.join(FIELDS)}, lacks {missing}")
    runs: dict[str, History] = {}
    for number, found in enumerate(lines, start=2):
        try:
            known = {name: _cell(name, found[name]) for name in FIELDS if name in names}
            row = Row(**known, measured=_measured(found))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}:{number}: not a row of a history: {error}") from error
        runs.setdefault(found.get("algorithm", path.stem), History()).append(row)
    return runs


def _measured(cells: Mapping[str, str]) -> dict[str, float]:
    """The columns that metrics have written. Other programs may have added columns of text, or
    without a name; an empty cell is of a row that lacks the metric."""
    made = {}
    for name, text in cells.items():
        if text and name not in (*FIELDS, "algorithm") and NAME_OF_COLUMN.fullmatch(name):
            with suppress(ValueError):
                made[name] = float(text)
    return made


def _cell(name: str, text: str) -> Any:  # of the field's own type
    """A cell's value; other programs write nan as nothing. Raises ValueError naming the column."""
    try:
        return READ[name]("nan" if text == "" and READ[name] is float else text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
