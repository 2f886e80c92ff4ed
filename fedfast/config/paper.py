"""The section of a config that names what a paper published of its algorithms."""

import re
from collections.abc import Collection
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

Seed = Annotated[int, Field(ge=0, lt=2**63)]
SUMMARY = re.compile(r"last|best|sum|(?:mean|round)-[1-9]\d*")


class Section(BaseModel):
    """A mapping of the file: unknown keys and wrong types are refused, never guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _summary(value: object) -> object:
    if not isinstance(value, str) or not SUMMARY.fullmatch(value):
        message = "Input should be last, best, sum, mean-N or round-N"
        raise PydanticCustomError("summary", message)
    return value


def _published(value: object) -> object:
    """A number, or [number, its standard deviation], or null."""
    pair = value if isinstance(value, list) else [value, 0.0]
    number = [isinstance(v, int | float) and not isinstance(v, bool) for v in pair]
    if value is not None and not (len(pair) == 2 and all(number)):
        raise PydanticCustomError("pair", "Input should be a number, [number, std] or null")
    return value


class Measure(Section):
    """One number of a run, and what a paper reports for it."""

    column: str = Field("accuracy", description="a column of history.csv, or one of its scalars")
    summary: Annotated[str, BeforeValidator(_summary)] = Field(
        "last", description="last, best, sum, mean-N (of the last N tested rounds) or round-N"
    )
    published: dict[str, Annotated[object, BeforeValidator(_published)]] = Field(
        description="label -> value or [value, std]; null = not at hand; accuracies in percent"
    )

    def of(self, label: str) -> tuple[float, float] | None:
        """(value, std) published of `label`; the std is 0 where none was given."""
        found = self.published[label]
        if isinstance(found, list):
            return float(found[0]), float(found[1])
        return (float(found), 0.0) if isinstance(found, int | float) else None


class PaperSection(Section):
    """What a published table reports of this run's algorithms."""

    source: str = Field(description="paper and table")
    seeds: list[Seed] = Field(min_length=1, description="the seeds to run")
    measures: list[Measure] = Field(min_length=1, description="the table's columns")
    note: str = Field("", description="what the paper leaves open and how it was filled")

    def forgotten(self, labels: Collection[str]) -> str:
        """What is wrong with the published labels: every algorithm has a value, if only null."""
        for i, measure in enumerate(self.measures):
            if set(measure.published) != set(labels):
                expected, found = ", ".join(labels), ", ".join(measure.published)
                return f"measures.{i}.published: expected one of each of {expected}, found {found}"
        return ""
