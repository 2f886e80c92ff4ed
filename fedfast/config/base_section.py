"""What sections of a config are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """A mapping of the file: unknown keys and wrong types are refused, never guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
