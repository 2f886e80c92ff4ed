"""The fields of a configuration file: type, bounds and one sentence about each.

The descriptions are the help texts of `fedfast run CONFIG --help`. Those of a simulation's options
are declared in `fedfast.options`.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, create_model, model_validator

from .._renamed_modules import names_of
from ..run_options import RunOptions
from .base_section import Section
from .named_fields import known_callbacks, known_metric, known_round_metrics
from .own_parameters import AlgorithmField
from .paper import PaperSection
from .run_fields import run_fields
from .sections import DataField, LossField, ModelField, PartitionField
from .sweep_section import SweepSection

__getattr__ = names_of(__name__)
# Names, or {name: .., option: ..}.
Callbacks = Annotated[
    list[Annotated[str | dict[str, object], Field(union_mode="left_to_right")]],
    AfterValidator(known_callbacks),
]
LABEL = r"^[A-Za-z0-9][A-Za-z0-9_+-]*$"  # a label names a file (checkpoint/<label>.pt) and a flag


class Sections(Section):
    """What a run is about: the sections of its file."""

    data: DataField = Field(description="which data set")
    partition: PartitionField = Field(description="how the training samples are dealt to clients")
    model: ModelField = Field(description="which architecture")
    algorithms: dict[Annotated[str, Field(pattern=LABEL)], AlgorithmField] = Field(
        min_length=1, description="label -> parameters; `name` inside where the label differs"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_algorithms(cls, raw: object) -> object:
        """`fedsam: {rho: 0.1}` and `fedsam:` mean the algorithm of that name."""
        if not isinstance(raw, dict) or not isinstance(raw.get("algorithms"), dict):
            return raw
        named = {
            label: {"name": label, **(given or {})} if isinstance(given, dict | None) else given
            for label, given in raw["algorithms"].items()
        }
        return {**raw, "algorithms": named}


if TYPE_CHECKING:
    # To mypy a pydantic model is a dataclass that is not frozen.
    class RunFields(RunOptions, Sections):  # type: ignore[misc]
        """What type checkers read: the options as Python has them."""

else:
    RunFields = create_model("RunFields", __base__=Sections, **run_fields())


class RunConfig(RunFields):  # type: ignore[misc]
    """One run: the same data, initial weights, cohorts and batches under each algorithm."""

    local_test: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of each client's samples set aside to test models on; null = none",
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="type of the weights")
    loss: LossField = Field(
        {"name": "cross_entropy"},
        validate_default=True,
        description="what is minimised, its mean over a batch; anything but cross_entropy trains "
        "by the module itself, slower",
    )
    metric: Annotated[str, AfterValidator(known_metric)] = Field(
        "auto",
        description="what accuracies count: auto, multiclass, binary, multilabel, none, or "
        "package.module:Name",
    )
    metrics: Annotated[list[str], AfterValidator(known_round_metrics)] = Field(
        [],
        description="columns of history.csv measured beside each round: cosine, conflicts, "
        "delta_eps, norm, drift, momentum, or package.module:Name",
    )
    callbacks: Callbacks = Field(
        [],
        description="what follows each round: names (early_stopping, keep_best, "
        "package.module:Name) or {name: .., option: ..}",
    )
    loggers: Callbacks = Field(
        [],
        description="where rounds are logged beside history.csv: tensorboard, wandb, mlflow, or "
        "{name: .., option: ..}",
    )
    save_rounds: int | None = Field(
        None,
        ge=1,
        description="rounds from one save of the state to the next; null = by save_seconds alone",
    )
    save_seconds: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds from one save to the next; saving takes at most 2 % of the time",
    )
    out: str | None = Field(
        None, min_length=1, description="run folder; null = runs/<name of the config file>"
    )
    paper: PaperSection | None = Field(
        None, description="the published values that `fedfast reproduce` compares with"
    )
    sweep: SweepSection | None = Field(
        None, description="the grid and seeds, or the search, that `fedfast sweep` runs"
    )

    def alone(self, label: str, seed: int) -> "RunConfig":
        """The configuration of a row: one label under one seed, in a folder that is given."""
        changes = {"seed": seed, "algorithms": {label: self.algorithms[label]}}
        nothing = {"out": None, "paper": None, "sweep": None}
        return self.model_copy(update={**changes, **nothing})

    def partition_options(self) -> dict[str, object]:
        """Keyword arguments for `fedfast.data.partition`, the seed filled in."""
        options = self.partition.options()
        drawn = "seed" in options and options["seed"] is None
        return options | ({"seed": self.seed} if drawn else {})
