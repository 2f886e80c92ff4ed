"""The fields of a file that are options of a simulation, made from their declarations."""

import math
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ..declarations import Declaration, declarations
from ..run_options import RunOptions
from ..validation.values import Count, Number, OneOf
from . import component_options
from .base_section import Seed


def run_fields() -> dict[str, tuple[object, object]]:
    """name -> (type, field), as pydantic's `create_model` takes them."""
    return {option.name: _field(option) for option in declarations(RunOptions)}


def _field(option: Declaration) -> tuple[object, object]:
    kind: Any = OWN.get(option.name) or _kind(option)
    # YAML writes None as null.
    text = option.texts[0].replace("None", "null")
    return kind | None if option.optional else kind, Field(option.default, description=text)


def _kind(option: Declaration) -> object:
    """The declared type with the bounds of its check."""
    check = option.check
    if isinstance(check, OneOf):
        return Literal[tuple(check.names)]
    if not isinstance(check, Count | Number):
        return option.type
    bounds = {name: bound for name, bound in asdict(check).items() if bound is not None}
    if isinstance(check, Number):
        bounds["allow_inf_nan"] = False
    return Annotated[option.type, Field(**bounds)]


def _budget(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    if value != "auto" and not (number and value != float("inf")):
        raise PydanticCustomError("budget", "Input should be auto or a number of GiB above 0")
    return value


def _rate(value: object) -> object:
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


# Options of which YAML has other values than Python. A union has one validator for both kinds:
# pydantic would report what is wrong with either.
OWN: dict[str, object] = {
    "lr": Annotated[float | dict[str, object], BeforeValidator(_rate)],
    "augment": Literal["crop-flip", "crop-flip-batch", "crop-flip-half"],
    "seed": Seed,
    "device": Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")],
    "memory": Annotated[Literal["auto"] | float, BeforeValidator(_budget)],
}
