"""The section of a config that names what a paper published of its algorithms."""

import re
from collections.abc import Collection
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

Seed = Annotated[int, Field(ge=0, lt=2**63)]
DIVERGED, NEVER = "X", "–"  # as papers print them: did not converge; no value, or never reached
SUMMARY = re.compile(r"last|best|sum|(?:mean|round)-[1-9]\d*")


class Section(BaseModel):
    """A mapping of the file: unknown keys and wrong types are refused, never guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _summary(value: object) -> object:
    if not isinstance(value, str) or not SUMMARY.fullmatch(value):
        message = "Input should be last, best, sum, mean-N or round-N"
        raise PydanticCustomError("summary", message)
    return value


def _numbers(value: object) -> bool:
    """Whether it is a list of two numbers."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    )


def _published(value: object) -> object:
    """A number, or [number, its standard deviation], or null, or a mark."""
    pair = value if isinstance(value, list) else [value, 0.0]
    if value not in (None, DIVERGED, NEVER) and not _numbers(pair):
        message = f"Input should be a number, [number, std], null, {DIVERGED} or {NEVER}"
        raise PydanticCustomError("pair", message)
    return value


def _mark(value: object) -> str:
    return value if isinstance(value, str) else ""


def _eigenvalue(value: object) -> object:
    """A number, or a list of one or more, or null, or a mark."""
    found = value if isinstance(value, list) and value else [value]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in found)
    if value not in (None, DIVERGED, NEVER) and not numbers:
        message = f"Input should be a number, a list of numbers, null, {DIVERGED} or {NEVER}"
        raise PydanticCustomError("eigenvalues", message)
    return value


def _cost(value: object) -> object:
    """[rounds, bytes], or null, or a mark."""
    if value not in (None, DIVERGED, NEVER) and not _numbers(value):
        message = f"Input should be [rounds, bytes], null, {DIVERGED} or {NEVER}"
        raise PydanticCustomError("cost", message)
    return value


class Measure(Section):
    """One number of a run, and what a paper reports for it."""

    column: str = Field("accuracy", description="a column of history.csv, or one of its scalars")
    summary: Annotated[str, BeforeValidator(_summary)] = Field(
        "last", description="last, best, sum, mean-N (of the last N tested rounds) or round-N"
    )
    published: dict[str, Annotated[object, BeforeValidator(_published)]] = Field(
        description="label -> value or [value, std]; null: not at hand; X: did not converge; –: "
        "the paper has no value; accuracies in percent"
    )

    def of(self, label: str) -> tuple[float, float] | None:
        """(value, std) published of `label`; the std is 0 where none was given."""
        found = self.published[label]
        if isinstance(found, list):
            return float(found[0]), float(found[1])
        return (float(found), 0.0) if isinstance(found, int | float) else None

    def mark(self, label: str) -> str:
        """What the paper prints of `label` instead of a number: X, – or nothing."""
        return _mark(self.published[label])


class Costs(Section):
    """Rounds to the baseline's final accuracy, and bytes over those of its whole run."""

    baseline: str = Field("fedavg", description="whose final accuracy is to be reached")
    summary: Annotated[str, BeforeValidator(_summary)] = Field(
        "mean-100", description="of its accuracies: last, best, mean-N or round-N"
    )
    published: dict[str, Annotated[object, BeforeValidator(_cost)]] = Field(
        description="label -> [rounds, bytes / those of the baseline's whole run]; null: not at "
        "hand; –: never; X: did not converge"
    )

    def of(self, label: str) -> tuple[float, float] | None:
        """(rounds, relative bytes) published of `label`."""
        found = self.published[label]
        return (float(found[0]), float(found[1])) if isinstance(found, list) else None

    def mark(self, label: str) -> str:
        """As of `Measure`."""
        return _mark(self.published[label])


Published = Annotated[object, BeforeValidator(_published)]
OfClients = Annotated[object, BeforeValidator(_eigenvalue)]


class Eigenvalues(Section):
    """Largest eigenvalues of the Hessian, label by label, as `fedfast hessian` measures them."""

    global_model: dict[str, Published] = Field(
        {}, description="of the global model on the training data: value, [value, std] or a mark"
    )
    clients_own: dict[str, OfClients] = Field(
        {}, description="of clients' models on their own samples: a value for each, or a mark"
    )
    clients_train: dict[str, OfClients] = Field(
        {}, description="of clients' models on the training data: a value for each, or a mark"
    )

    @property
    def tables(self) -> dict[str, dict[str, object]]:
        """Name of the field -> its values."""
        names = ("global_model", "clients_own", "clients_train")
        return {name: getattr(self, name) for name in names}


class PaperSection(Section):
    """What a published table reports of this run's algorithms."""

    source: str = Field(description="paper and table")
    seeds: list[Seed] = Field(min_length=1, description="the seeds to run")
    measures: list[Measure] = Field(min_length=1, description="the table's columns")
    costs: Costs | None = Field(None, description="the table of rounds and bytes to an accuracy")
    eigenvalues: Eigenvalues | None = Field(None, description="a table of largest eigenvalues")
    note: str = Field("", description="what the paper leaves open and how it was filled")

    def forgotten(self, labels: Collection[str]) -> str:
        """What is wrong with the published labels: every algorithm has a value, if only null."""
        tables = {f"measures.{i}": measure.published for i, measure in enumerate(self.measures)}
        if self.costs is not None:
            tables["costs"] = self.costs.published
        for name, published in tables.items():
            if set(published) != set(labels):
                expected, found = ", ".join(labels), ", ".join(published)
                return f"{name}.published: expected one of each of {expected}, found {found}"
        for name, values in (self.eigenvalues.tables if self.eigenvalues else {}).items():
            if others := set(values) - set(labels):
                found = ", ".join(sorted(others))
                return f"eigenvalues.{name}: expected some of {', '.join(labels)}, found {found}"
        if self.costs is not None and self.costs.baseline not in labels:
            return f"costs.baseline: expected one of {', '.join(labels)}"
        return ""
