"""The section of a config that names what a paper published of its algorithms."""

from collections.abc import Collection
from typing import Annotated

from pydantic import BeforeValidator, Field

from . import paper_values
from .base_section import Section, Seed

Summary = Annotated[str, BeforeValidator(paper_values.summary)]
Published = Annotated[object, BeforeValidator(paper_values.published)]
OfClients = Annotated[object, BeforeValidator(paper_values.eigenvalue)]
Cost = Annotated[object, BeforeValidator(paper_values.cost)]


class Measure(Section):
    """One number of a run, and what a paper reports for it."""

    column: str = Field("accuracy", description="a column of history.csv, or one of its scalars")
    summary: Summary = Field(
        "last", description="last, best, sum, mean-N (of the last N tested rounds) or round-N"
    )
    published: dict[str, Published] = Field(
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
        return paper_values.mark(self.published[label])


class Costs(Section):
    """Rounds to the baseline's final accuracy, and bytes over those of its whole run."""

    baseline: str = Field("fedavg", description="whose final accuracy is to be reached")
    summary: Summary = Field(
        "mean-100", description="of its accuracies: last, best, mean-N or round-N"
    )
    published: dict[str, Cost] = Field(
        description="label -> [rounds, bytes / those of the baseline's whole run]; null: not at "
        "hand; –: never; X: did not converge"
    )

    def of(self, label: str) -> tuple[float, float] | None:
        """(rounds, relative bytes) published of `label`."""
        found = self.published[label]
        return (float(found[0]), float(found[1])) if isinstance(found, list) else None

    def mark(self, label: str) -> str:
        """As of `Measure`."""
        return paper_values.mark(self.published[label])


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
