"""The sections that name something: data set, partition, model, algorithm.

Keys beside the name are the options of what it names. For data sets, partitions and models they
come from the signature of the function, a user's own (`package.module:Name`) like a built-in one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field, SerializeAsAny, create_model
from pydantic_core import PydanticCustomError

from ..registry import Registry
from .base_section import Section, Seed
from .signatures import Convert, converters, fields_of, takes_more

Count = Annotated[int, Field(ge=1, lt=1 << 31)]


class NamedSection(Section):
    """A name, and its options.

    home  module and name of the registry that knows the names
    own   parameters of the functions there that are no options
    """

    name: str
    home: ClassVar[tuple[str, str]]
    own: ClassVar[tuple[str, ...]] = ()
    convert: ClassVar[dict[str, Convert]] = {}

    def options(self) -> dict[str, object]:
        """The keys of what is named, as keyword arguments."""
        declared = _base_of(type(self)).model_fields
        given = {key: value for key, value in self.model_dump().items() if key not in declared}
        made = {key: make(given[key]) for key, make in self.convert.items() if key in given}
        return given | made


class DataSection(NamedSection):
    """Which data set."""

    home = ("fedfast.data", "READERS")
    own = ("name", "root")

    name: str = Field(description="data set, read from root but for digits")
    root: str = Field("data", description="folder that holds the data sets")
    pool: bool = Field(
        False, description="deal train and test together; clients test by local_test alone"
    )
    holdout: Count | None = Field(
        None, description="last training samples that are the test set in place of the given one"
    )


class PartitionSection(NamedSection):
    """How samples are dealt to clients."""

    home = ("fedfast.data", "PARTITIONS")
    own = ("samples", "test")

    name: str = Field(description="how samples are dealt to clients")


class ModelSection(NamedSection):
    """Which architecture."""

    home = ("fedfast.models", "MODELS")
    own = ("input_shape", "classes", "seed")

    name: str = Field(description="architecture")


class LossSection(NamedSection):
    """What is minimised."""

    home = ("fedfast.named_losses", "LOSSES")

    name: str = Field("cross_entropy", description="loss")


class AlgorithmSection(Section):
    """One algorithm; its own parameters stand beside the name and are checked by the algorithm."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str = Field(description="algorithm, as known to fedfast.algorithms")

    def options(self) -> dict[str, object]:
        """The further keys, as keyword arguments."""
        return dict(self.model_extra or {})


def registry(base: type[NamedSection]) -> Registry[Callable[..., object]]:
    """Where the names of this section are known."""
    module, name = base.home
    found: Registry[Callable[..., object]] = getattr(import_module(module), name)
    return found


def section(base: type[NamedSection], raw: object) -> type[NamedSection]:
    """`base` with the options of what the mapping `raw` names; `base` itself without a name.

    Raises ValueError or TypeError where nothing has this name.
    """
    name = raw.get("name") if isinstance(raw, dict) else None
    if not isinstance(name, str):
        return base
    return _made(base, registry(base).find(name))


@cache
def _made(base: type[NamedSection], function: Callable[..., object]) -> type[NamedSection]:
    own = {*base.own, *base.model_fields, *(_targets(function) if base is LossSection else ())}
    fields = fields_of(function, own)
    if base is PartitionSection and fields.pop("seed", None):
        text = "seed of the partition; null = the run's seed"
        fields["seed"] = (Seed | None, Field(None, description=text))
    if taken := [key for key in fields if key.startswith("model_") and hasattr(base, key)]:
        raise ValueError(f"a parameter cannot be called {taken[0]!r} here: give it another name")
    made: type[NamedSection] = create_model(base.__name__, __base__=base, **fields)
    made.convert = {key: c for key, c in converters(function).items() if key in fields}
    if takes_more(function):
        made.model_config["extra"] = "allow"
        made.model_rebuild(force=True)
    return made


def _targets(function: Callable[..., object]) -> tuple[str, ...]:
    from ..named_losses import filled

    return filled(function)


def _base_of(cls: type[NamedSection]) -> type[NamedSection]:
    bases = (DataSection, PartitionSection, ModelSection, LossSection)
    return next(base for base in bases if issubclass(cls, base))


def _checked(base: type[NamedSection]) -> Callable[[object], object]:
    def check(value: object) -> object:
        try:
            made = section(base, value)
        except (ValueError, TypeError) as error:
            why = str(error).removeprefix(f"{registry(base).kind}: ")  # the key says so
            raise PydanticCustomError("named", "{why}", {"why": why}) from None
        return made.model_validate(value)

    return check


DataField = Annotated[SerializeAsAny[DataSection], BeforeValidator(_checked(DataSection))]
PartitionField = Annotated[
    SerializeAsAny[PartitionSection], BeforeValidator(_checked(PartitionSection))
]
ModelField = Annotated[SerializeAsAny[ModelSection], BeforeValidator(_checked(ModelSection))]
LossField = Annotated[SerializeAsAny[LossSection], BeforeValidator(_checked(LossSection))]
