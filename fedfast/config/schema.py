"""The fields of a configuration file: type, bounds and one sentence about each.

The descriptions are the help texts of `fedfast run CONFIG --help`. Those of a simulation's options
are declared in `fedfast.options`.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, create_model, model_validator

from ..run_options import RunOptions
from .paper import PaperSection, Section, Seed
from .run_fields import run_fields

LABEL = r"^[A-Za-z0-9][A-Za-z0-9_+-]*$"  # a label names a file (checkpoint/<label>.pt) and a flag

Count = Annotated[int, Field(ge=1, lt=1 << 31)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class OpenSection(Section):
    """A section whose further keys belong to the named model or algorithm, which checks them."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    def options(self) -> dict[str, object]:
        """The further keys, as keyword arguments."""
        return dict(self.model_extra or {})


class DataSection(Section):
    """Which data set."""

    name: str = Field(description="data set: digits needs no files, the others are read from root")
    root: str = Field("data", description="folder that holds the data sets")
    pool: bool = Field(
        False, description="deal train and test together; clients test by local_test alone"
    )
    holdout: Count | None = Field(
        None, description="last training samples that are the test set in place of the given one"
    )


class Dirichlet(Section):
    """Label skew: every client draws its own class proportions."""

    name: Literal["dirichlet"] = Field(description="how samples are dealt to clients")
    clients: Count = Field(description="number of clients in the population")
    alpha: Positive = Field(description="concentration: small = few classes per client")
    min_size: int = Field(1, ge=0, description="samples every client has at least")
    seed: Seed | None = Field(None, description="seed of the partition; null = the run's seed")


class DirichletEqual(Section):
    """Label skew with equal amounts: every client draws from a class prior of its own."""

    name: Literal["dirichlet-equal"] = Field(description="how samples are dealt to clients")
    clients: Count = Field(description="number of clients in the population")
    alpha: Positive = Field(description="concentration: small = few classes per client")
    sigma: NotNegative = Field(0.0, description="spread of log-normal sizes; 0 = equal ones")
    refill: bool = Field(False, description="deal an exhausted class again, as FL-Simulator does")
    starve: bool = Field(False, description="deal class 0 last, as FedFSA's code does")
    seed: Seed | None = Field(None, description="seed of the partition; null = the run's seed")


class Hsu(Section):
    """Label skew with equal amounts, as FedSAM and FedGloSS deal; alpha 0: one class each."""

    name: Literal["hsu"] = Field(description="how samples are dealt to clients")
    clients: Count = Field(description="number of clients in the population")
    alpha: NotNegative = Field(description="concentration; 0 = exactly one class per client")
    seed: Seed | None = Field(None, description="seed of the partition; null = the run's seed")


class Natural(Section):
    """Every owner of samples is a client, where the data set names owners."""

    name: Literal["natural"] = Field(description="how samples are dealt to clients")
    clients: Count | None = Field(None, description="so many of the owners; null = all")
    min_size: int = Field(1, ge=1, description="samples an owner has at least to be a client")
    seed: Seed | None = Field(None, description="seed of the choice; null = the run's seed")


class IID(Section):
    """Every client draws from the same distribution."""

    name: Literal["iid"] = Field(description="how samples are dealt to clients")
    clients: Count = Field(description="number of clients in the population")
    sigma: NotNegative = Field(0.0, description="spread of log-normal sizes; 0 = equal ones")
    seed: Seed | None = Field(None, description="seed of the partition; null = the run's seed")


class Pathological(Section):
    """Every client draws from a few classes of its own, chosen for each client alone."""

    name: Literal["pathological"] = Field(description="how samples are dealt to clients")
    clients: Count = Field(description="number of clients in the population")
    classes_per_client: Count = Field(description="number of classes each client draws from")
    refill: bool = Field(False, description="deal an exhausted class again, as FL-Simulator does")
    seed: Seed | None = Field(None, description="seed of the partition; null = the run's seed")


class Shards(Section):
    """Every client holds a fixed number of classes."""

    name: Literal["shards"] = Field(description="how samples are dealt to clients")
    clients: Count = Field(description="number of clients in the population")
    classes_per_client: Count = Field(description="number of classes each client holds")
    seed: Seed | None = Field(None, description="seed of the partition; null = the run's seed")


PARTITIONS: dict[str, type[Section]] = {
    "dirichlet": Dirichlet,
    "dirichlet-equal": DirichletEqual,
    "hsu": Hsu,
    "iid": IID,
    "natural": Natural,
    "pathological": Pathological,
    "shards": Shards,
}
Partition = Annotated[
    Dirichlet | DirichletEqual | Hsu | IID | Natural | Pathological | Shards,
    Field(discriminator="name"),
]


class ModelSection(OpenSection):
    """Which architecture; its own options are beside the name."""

    name: str = Field(description="architecture, as known to fedfast.models")


class AlgorithmSection(OpenSection):
    """One algorithm; its own parameters are beside the name."""

    name: str = Field(description="algorithm, as known to fedfast.algorithms")


class Sections(Section):
    """What a run is about: the sections of its file."""

    data: DataSection = Field(description="which data set")
    partition: Partition = Field(description="how the training samples are dealt to clients")
    model: ModelSection = Field(description="which architecture")
    algorithms: dict[Annotated[str, Field(pattern=LABEL)], AlgorithmSection] = Field(
        min_length=1, description="label -> parameters; `name` inside where the label differs"
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
    out: str | None = Field(
        None, min_length=1, description="run folder; null = runs/<name of the config file>"
    )
    paper: PaperSection | None = Field(
        None, description="the published values that `fedfast reproduce` compares with"
    )

    def partition_options(self) -> dict[str, object]:
        """Keyword arguments for `fedfast.data.partition`, the seed filled in."""
        options = self.partition.model_dump(exclude={"name"})
        return options | {"seed": self.seed if options["seed"] is None else options["seed"]}
