"""Options of one's own parts: what the function is given for what YAML holds."""

import math
from enum import Enum
from pathlib import Path
from typing import Annotated

import pytest
from torch import nn

from fedfast import models
from fedfast.config.sections import ModelSection, _made
from fedfast.own_modules import refused


class Colour(Enum):
    RED = 1
    BLUE = 2


class Text(str, Enum):
    RED = "r"


ROWS = [  # annotation, default, written, given
    (Annotated[Colour | None, "text"], Colour.RED, None, Colour.RED),
    (Annotated[Colour | None, "text"], Colour.RED, "BLUE", Colour.BLUE),
    (Annotated[Colour, "text"] | None, None, "BLUE", Colour.BLUE),
    (Colour | int, 3, None, 3),
    (Colour | int, 3, "RED", Colour.RED),
    (Text, Text.RED, None, Text.RED),
    (list[Colour], [Colour.RED], None, [Colour.RED]),
    (list[Colour] | None, None, ["RED", "BLUE"], [Colour.RED, Colour.BLUE]),
    (list[Path], [], ["a"], [Path("a")]),
    (dict[str, Path], {}, {"k": "a"}, {"k": Path("a")}),
    (int | Path, 3, None, 3),
    (int | Path, 3, "a", Path("a")),
    (None, Colour.RED, "BLUE", Colour.BLUE),
    (None, Path("a"), "b", Path("b")),
    (None, (8, 4), None, (8, 4)),
    (tuple[int, ...], (8,), [3], (3,)),
    (tuple[int, str], (8, "a"), [3, "b"], (3, "b")),
    (list[tuple[int, int]], [(1, 2)], None, [(1, 2)]),
    (float, math.inf, None, math.inf),
    (None, math.inf, math.inf, math.inf),
]


@pytest.mark.parametrize("annotation, default, written, given", ROWS)
def test_a_function_is_given_what_it_declares(annotation, default, written, given):
    def make(classes, option=default, _private=1):
        return nn.Linear(1, classes)

    if annotation is not None:
        make.__annotations__["option"] = annotation
    section = _made(ModelSection, make)
    raw = {"name": "mine"} | ({} if written is None else {"option": written})
    found = section.model_validate(raw)
    assert found.options() == {"option": given}
    assert type(found.options()["option"]) is type(given)
    again = section.model_validate(found.model_dump())  # as a resolved config is read again
    assert again.options() == found.options()


def test_a_wrong_type_is_still_refused():
    def make(classes, pair: tuple[int, str] = (1, "a"), rate: float = 1.0):
        return nn.Linear(1, classes)

    section = _made(ModelSection, make)
    for wrong in ({"pair": 3}, {"pair": [0.5]}, {"rate": math.inf}, {"_private": 2}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            section.model_validate({"name": "mine", **wrong})


def test_names_that_a_section_needs_itself_are_refused():
    def make(classes, model_config=1):
        return nn.Linear(1, classes)

    with pytest.raises(ValueError, match="a parameter cannot be called 'model_config'"):
        _made(ModelSection, make)


def seeded(classes, seed, width=1):
    made = nn.Linear(width, classes)
    made.seed = seed
    return made


def test_a_model_with_a_seed_is_given_the_runs():
    assert "seed" not in _made(ModelSection, seeded).model_fields
    assert models.build(f"{__name__}:seeded", input_shape=(1,), classes=2, seed=5).seed == 5


@pytest.mark.parametrize(
    "error, says",
    [
        (
            RuntimeError("two\nlines"),
            r"^model: RuntimeError: two lines \(test_own_options.py:\d+\)$",
        ),
        (AssertionError(), r"^model: AssertionError \(test_own_options.py:\d+\)$"),
        (ValueError(), r"^model: ValueError \(test_own_options.py:\d+\)$"),
    ],
)
def test_an_error_of_ones_own_code_is_one_line(error, says):
    with pytest.raises(ValueError, match=says), refused("model"):
        raise error
