"""`as_data`: what a user's own reader returns, as `Data`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from .._messages import format_value, unknown
from .dataset import Data
from .samples import Samples, as_samples

EXPECTED = (
    "expected fedfast.data.Data, samples ((x, y) or a Dataset), a pair (train, test) of them, or a "
    "mapping {train: .., test: .., classes: ..}"
)
KEYS = ("train", "test", "classes")


def as_data(found: object, name: str) -> Data:
    """Data of what the function `name` returned: train part, test part, number of classes.

    Data, as it is; samples in any form of `as_samples`, which have no test part; a pair of such;
    or a mapping with `train`, and perhaps `test` and `classes`. Classes are counted where they are
    not given: the largest label of both parts + 1, or the width C of targets [n, C].
    Raises TypeError/ValueError naming the function and the part.
    """
    if isinstance(found, Data):
        return found
    what = f"data set {name}"
    train, test, classes = _parts(found, what)
    samples = as_samples(train, f"{what}: train")
    other = None if test is None else as_samples(test, f"{what}: test")
    return Data(samples, other, name, _classes(classes, what, samples, other))


def _parts(found: object, what: str) -> tuple[object, object, object]:
    if isinstance(found, Mapping):
        for key in found:
            if key not in KEYS:
                raise unknown(f"{what}: key", key, KEYS)
        if found.get("train") is None:
            raise ValueError(f"{what}: {EXPECTED}; got a mapping without train")
        return found["train"], found.get("test"), found.get("classes")
    if isinstance(found, (tuple, list)) and len(found) == 2:
        if not any(isinstance(part, (Tensor, np.ndarray)) for part in found):
            return found[0], found[1], None
    elif not isinstance(found, Samples) and not hasattr(type(found), "__getitem__"):
        raise TypeError(f"{what}: {EXPECTED}; got {format_value(found)}")
    return found, None, None


def _classes(given: object, what: str, *parts: Samples | None) -> int:
    y = [part.y for part in parts if part is not None]
    counted = int(max(t.max() for t in y)) + 1 if y[0].ndim == 1 else int(y[0].shape[1])
    if given is None:
        return counted
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < 1:
        raise ValueError(f"{what}: classes: expected an integer >= 1; got {format_value(given)}")
    if y[0].ndim == 1 and given < counted:
        raise ValueError(
            f"{what}: classes: expected at least {counted}, for labels go up to {counted - 1}; "
            f"got {given}"
        )
    return int(given)
