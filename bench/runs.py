"""Files that pytest-benchmark saved for `make bench`, checked as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

Positive = Annotated[float, Field(gt=1e-99, lt=1e99)]


class Rate(BaseModel):
    """A yardstick's work per second, at best and as a rule."""

    best: Positive
    median: Positive


class Times(BaseModel):
    """Of the plugin's stats, seconds."""

    min: Positive
    q1: Positive
    median: Positive
    q3: Positive

    def times(self, rate: Rate) -> Times:
        """Work instead of seconds: the least by the best rate, others by the median."""
        q1, median, q3 = (rate.median * seconds for seconds in (self.q1, self.median, self.q3))
        return Times(min=self.min * rate.best, q1=q1, median=median, q3=q3)


class Extra(BaseModel):
    """Of a benchmark's extra_info."""

    yardsticks: dict[str, Rate]
    bytes: Positive | None = None
    flops: Positive | None = None
    samples: Positive | None = None


class Benchmark(BaseModel):
    """One of a run."""

    fullname: str
    group: str | None
    params: dict[str, Any] | None
    stats: Times
    extra_info: Extra

    @property
    def contestant(self) -> str:
        """Who is timed: "fedfast", or what it is compared with."""
        return str((self.params or {}).get("contestant", "fedfast"))

    def costs(self) -> dict[str, Times]:
        """The work that each yardstick which applies does in this benchmark's times."""
        bound = {"copy": self.extra_info.bytes, "sgemm": self.extra_info.flops}
        told = {name for name, amount in bound.items() if amount} or set(bound)
        rates = self.extra_info.yardsticks.items()
        return {name: self.stats.times(rate) for name, rate in rates if name in told}


class Run(BaseModel):
    """A file that the plugin saved."""

    benchmarks: list[Benchmark]


def read(path: Path) -> list[Benchmark]:
    """The benchmarks of a run.

    Raises ValueError if the file is none of `make bench`; OSError if it cannot be read.
    """
    try:
        return Run.model_validate_json(path.read_bytes()).benchmarks
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{path}: no run of make bench: {where}: {first['msg']}") from None
