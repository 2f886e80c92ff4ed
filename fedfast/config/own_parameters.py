"""Parameters of a user's own algorithm and components, held to the types of their classes.

Ours check themselves when they are made, with bounds and in the words of their papers; of a user's
class the annotations are what there is, and a wrong type would show only in the first round.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, create_model

from .sections import AlgorithmSection
from .signatures import Fields, fields_of

PARTS = ("local", "drift", "server", "fine_tune")


class Parameters(BaseModel):
    """Of one class; unknown ones are reported when it is made, with the nearest name."""

    model_config = ConfigDict(extra="ignore", strict=True)


def checked(raw: object) -> object:
    """`raw`, an algorithm's section. Raises pydantic's ValidationError for a wrong type."""
    if isinstance(raw, dict):
        _validate(_fields("", raw), raw)
        parts: Fields = {}
        for part in PARTS:  # after the whole, whose values they may repeat
            given = raw.get(part)
            if isinstance(given, dict) and (inner := _fields(part, given)):
                parts[part] = (create_model(part, __base__=Parameters, **inner), ...)
        _validate(parts, raw)
    return raw


def _validate(fields: Fields, raw: object) -> None:
    create_model("parameters", __base__=Parameters, **fields).model_validate(raw)


def _fields(part: str, given: dict[str, object]) -> Fields:
    """The fields of the class that is named, none for ours and for what cannot be found."""
    from ..algorithms import registry_of

    try:
        cls = registry_of(part).find(given.get("name"))
    except (ValueError, TypeError):  # reported when it is made
        return {}
    ours = cls.__module__.split(".")[0] == "fedfast"
    return {} if ours else fields_of(cls, ("name", "keep_models", *PARTS))


AlgorithmField = Annotated[AlgorithmSection, BeforeValidator(checked)]
