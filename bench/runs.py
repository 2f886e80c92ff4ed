"""Files that pytest-benchmark saved for `make bench`, checked as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Rate(BaseModel):
    """A yardstick's work per second."""

    best: Positive
    median: Positive


class Times(BaseModel):
    """Of the plugin's stats, seconds."""

    min: Positive
    median: Positive


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

    def costs(self) -> dict[str, Rate]:
        """Work of each yardstick that applies, in the least and in the median time."""
        bound = {"copy": self.extra_info.bytes, "sgemm": self.extra_info.flops}
        told = {name for name, amount in bound.items() if amount} or set(bound)
        return {
            name: Rate(best=self.stats.min * rate.best, median=self.stats.median * rate.median)
            for name, rate in self.extra_info.yardsticks.items()
            if name in told
        }


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
