"""What a configuration file may say: every field, its type, its bounds and one sentence about it.

The descriptions are the help texts of `fedfast run CONFIG --help`, so they speak to its reader.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from . import component_options
from .paper import PaperSection, Section, Seed
from .sections import AlgorithmSection, Count, DataField, ModelField, PartitionField

LABEL = r"^[A-Za-z0-9][A-Za-z0-9_+-]*$"  # a label names a file (checkpoint/<label>.pt) and a flag

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _budget(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "auto" and not (number and 0 < value < float("inf")):
        raise PydanticCustomError("budget", "Input should be auto or a number of GiB above 0")
    return value


# One check for both kinds: of a union pydantic would tell what is wrong with either.
Budget = Annotated[Literal["auto"] | float, BeforeValidator(_budget)]


def _rate(value: Any) -> Any:
    if isinstance(value, dict):
        try:
            return component_options.schedule_parameters(value)
        except (ValueError, TypeError) as error:
            raise PydanticCustomError("rate", "{why}", {"why": str(error)}) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("rate", "Input should be a valid number")
    if not math.isfinite(value):
        raise PydanticCustomError("rate", "Input should be a finite number")
    if value <= 0:
        raise PydanticCustomError("rate", "Input should be greater than 0")
    return float(value)


Rate = Annotated[float | dict[str, Any], BeforeValidator(_rate)]


class RunConfig(Section):
    """One run: the same data, initial weights, cohorts and batches under each algorithm."""

    data: DataField = Field(description="which data set")
    partition: PartitionField = Field(description="how the training samples are dealt to clients")
    model: ModelField = Field(description="which architecture")
    algorithms: dict[Annotated[str, Field(pattern=LABEL)], AlgorithmSection] = Field(
        min_length=1, description="label -> parameters; `name` inside where the label differs"
    )

    rounds: Count = Field(100, description="communication rounds")
    participation: float = Field(
        0.1, gt=0, le=1, description="share of the clients that trains in each round"
    )
    local_epochs: Count = Field(
        1, lt=1 << 24, description="passes over its own data a client makes per round"
    )
    batch_size: Count | None = Field(50, description="samples per local step; null = all")
    lr: Rate = Field(
        0.1, description="local learning rate of round 1, or {name: cosine, start: .., rounds: ..}"
    )
    lr_decay: Positive = Field(1.0, description="factor on lr after each round")
    lr_decay_per: Literal["round", "client_epoch"] = Field(
        "round", description="lr_decay after each round, or after each local epoch of a client"
    )
    server_lr: Positive = Field(1.0, description="server learning rate")
    weight_decay: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="L2 factor of the local steps"
    )
    clip_norm: Positive | None = Field(
        None, description="largest norm of a local gradient; null = no clipping"
    )
    aggregation: Literal["samples", "uniform"] = Field(
        "samples", description="client weights: by their number of samples, or all equal"
    )
    augment: Literal["crop-flip", "crop-flip-batch", "crop-flip-half"] | None = Field(
        None, description="crops and flips of training images; -batch: alike in a step; null = none"
    )
    sampling: Literal["exact", "bernoulli"] = Field(
        "exact", description="cohorts of exactly that share, or each client with that probability"
    )
    metric: str = Field(
        "auto", description="what accuracies count: auto, multiclass, binary, multilabel, none"
    )
    callbacks: list[str] = Field(
        [], description="called as f(sim, row) after each round: package.module:Name of each"
    )
    drop_last: bool = Field(
        False, description="leave out the last batch of an epoch where it is not whole"
    )
    verify: bool = Field(
        True, description="compare a layer program with autograd on the model before round 1"
    )
    eval_every: Count = Field(1, description="rounds from one test of the global model to the next")
    eval_last: Count = Field(1, description="so many of the last rounds are tested each")
    local_test: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of each client's samples set aside to test models on; null = none",
    )
    seed: Seed = Field(0, description="seed of weights, cohorts, batches and partition")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N"
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="type of the weights")
    threads: Count | None = Field(None, le=4096, description="CPU threads; null = all cores")
    backend: Literal["auto", "native", "triton", "reference"] = Field(
        "auto", description="which implementation of the operations"
    )
    precision: Literal["fp32", "tf32x3", "tf32", "bf16"] = Field(
        "fp32", description="how far a GPU may round float32 products; the CPU never does"
    )
    chunk: Count | None = Field(None, description="clients trained together; null = what fits")
    memory: Budget = Field(
        "auto", description="GiB the run may take, which limits K; auto = a share of what is free"
    )
    on_divergence: Literal["stop", "continue"] = Field(
        "stop", description="when a client's weights are no longer finite: stop, or go on without"
    )
    empty_clients: Literal["skip", "refuse"] = Field(
        "skip", description="clients without samples: skip them, or refuse to run"
    )
    out: str | None = Field(
        None, min_length=1, description="run folder; null = runs/<name of the config file>"
    )
    paper: PaperSection | None = Field(
        None, description="the published values that `fedfast reproduce` compares with"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_algorithms(cls, raw: Any) -> Any:
        """`fedsam: {rho: 0.1}` and `fedsam:` mean the algorithm of that name."""
        algorithms = raw.get("algorithms") if isinstance(raw, dict) else None
        if not isinstance(algorithms, dict):
            return raw
        named = {
            label: {"name": label, **(given or {})} if isinstance(given, dict | None) else given
            for label, given in algorithms.items()
        }
        return {**raw, "algorithms": named}

    def partition_options(self) -> dict[str, Any]:
        """Keyword arguments for `fedfast.data.partition`, the seed filled in."""
        options = self.partition.options()
        drawn = "seed" in options and options["seed"] is None
        return options | ({"seed": self.seed} if drawn else {})
