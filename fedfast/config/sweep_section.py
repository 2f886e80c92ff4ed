"""The section of a config that says which rows `fedfast sweep` trains."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ..better import directed, sign
from ..history import NAME_OF_COLUMN
from .base_section import Section, Seed
from .paper_values import SUMMARY

Positive = Annotated[int, Field(ge=1, lt=1 << 31)]


def _distinct(found: object) -> object:
    """A list with at least one value and none twice: each is a row of its own."""
    if not isinstance(found, list) or not found:
        raise PydanticCustomError("values", "Input should be a list of at least one value")
    twice = [value for i, value in enumerate(found) if value in found[:i]]
    if twice:
        why = "Input should be a list of different values ({value} is there twice)"
        raise PydanticCustomError("values", why, {"value": str(twice[0])})
    return found


def _seeds(found: object) -> object:
    return None if found is None else _distinct(found)


def _metric(found: object) -> object:
    column, colon, summary = str(found).partition(":")
    if not NAME_OF_COLUMN.fullmatch(column) or (colon and not SUMMARY.fullmatch(summary)):
        why = "Input should be a column, perhaps followed by :best, :mean-N or :round-N"
        raise PydanticCustomError("metric", why)
    return found


class SweepSection(Section):
    """Every combination of the grid's values, or the trials of a search, under every seed."""

    seeds: Annotated[list[Seed] | None, BeforeValidator(_seeds)] = Field(
        None, description="the seeds of every combination; null = the run's seed alone"
    )
    grid: dict[str, Annotated[list[object], BeforeValidator(_distinct)]] = Field(
        {}, description="field -> its values: partition.alpha: [0.1, 0.5]"
    )
    search: dict[str, str] = Field(
        {}, description="field -> low..high, low..high:log or a|b|c: what a search may choose"
    )
    trials: Positive = Field(20, description="how many settings a search tries for each label")
    metric: Annotated[str, BeforeValidator(_metric)] = Field(
        "accuracy",
        description="what a search looks at: a column, of the run's metrics too, or column:summary",
    )
    mode: Literal["auto", "max", "min"] = Field(
        "auto", description="whether more of it is better: max, min, or auto by the column's name"
    )
    storage: str | None = Field(
        None, description="where Optuna keeps a search: sqlite:///FILE; null = in the process"
    )
    launcher: Literal["local", "ray"] = Field(
        "local", description="where rows run: here, or on the Ray cluster that RAY_ADDRESS names"
    )
    jobs: Positive | None = Field(
        None, description="rows trained at once; null = as many as cores or GPUs allow"
    )

    @property
    def column(self) -> str:
        """The metric's column; `better.sign` tells whether more of it is better."""
        return directed(self.metric.partition(":")[0], self.mode)

    @property
    def maximized(self) -> bool:
        """Whether more of the metric is better."""
        return sign(self.column) > 0
