"""Arguments of other types and sizes, of partitions, readers and models: errors that name them."""

from dataclasses import replace

import pytest
import torch
from refused import refused
from test_size_limits import MORE, PARTS, X, Y

from fedfast import models
from fedfast.data import (
    as_samples,
    describe,
    dirichlet,
    dirichlet_equal,
    hsu,
    iid,
    load,
    local_split,
    natural,
    partition,
    pathological,
)

OTHER = [None, "3", 2.5, True, [2], float("nan"), {}, -1, 0, 10**30, object()]


@pytest.mark.parametrize("split_by", PARTS)
@pytest.mark.parametrize(
    "value",
    OTHER,
    ids=lambda v: f"{type(v).__name__}-{str(v)[:6]}" if type(v) is not object else "object",
)
def test_partition_arguments_of_other_types(split_by, value):
    more = MORE.get(split_by.__name__, ())
    refused(lambda: split_by((X, Y), value, *more), "^clients: expected")
    refused(
        lambda: partition(split_by.__name__.replace("_", "-"), value, clients=2),
        "expected|option|missing",
    )
    if more and not (split_by is hsu and value == 0) and value != 2.5:
        options = {"alpha": "alpha", "classes_per_client": "classes_per_client"}
        if not (isinstance(more[0], float) and value == 10**30):
            refused(lambda: split_by((X, Y), 2, value), f"^({'|'.join(options)}): expected")
    if not (value in (0, 10**30) and not isinstance(value, bool)):
        refused(lambda: split_by((X, Y), 2, *more, seed=value), "^seed: expected")


def test_other_arguments_of_other_types():
    owned = replace(as_samples((X, Y)), owner=torch.arange(40) % 5)
    digits = load("digits")
    for value in ("1", None, 1.5, True):
        refused(lambda v=value: dirichlet((X, Y), 2, 1.0, min_size=v), "^min_size: expected")
        refused(lambda v=value: natural(owned, min_size=v), "^min_size: expected")
        refused(lambda v=value: digits.hold_out(v), "^holdout: expected")
        refused(lambda v=value: iid((X, Y), 2).client(v), "^i: expected")
    for value in ("1", 1.5, True):
        refused(lambda v=value: natural(owned, v), "^clients: expected")
    for value in (None, (X, Y), 3, "data"):
        refused(lambda v=value: local_split(v), "^data: expected FederatedData")
        refused(lambda v=value: describe(v), "^data: expected FederatedData")
    for value in ("a", None, 0, 1, 1.5, -1, float("nan"), True, [0.5]):
        refused(lambda v=value: local_split(iid((X, Y), 2), v), "^test_share: expected")
    for value in ("1", 1, None):
        refused(lambda v=value: dirichlet_equal((X, Y), 2, 1.0, refill=v), "^refill: expected")
        refused(lambda v=value: pathological((X, Y), 2, 1, refill=v), "^refill: expected")
    for value in (None, 3, ["digits"], {}):
        refused(lambda v=value: load(v), "^data set: unknown name")
        refused(lambda v=value: partition(v, (X, Y)), "^partition: unknown name")
    for value in (None, 3, ["data"]):
        refused(lambda v=value: load("digits", v), "^root: expected a path")
    refused(lambda: load("mnist", "~nobody-of-this-name/x"), "^root: expected a path")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("mlp", {"hidden": v}) for v in ([-1], [0], ["a"], [1.5], 5, "ab", [True], [10**12])),
        *(("cnn", {"channels": v}) for v in ((1,), (1, 2, 3), (0, 1), 4, (10**9, 10**9))),
        *(("lenet", {"kernel": v}) for v in (0, -1, "5", 2.5, None, 10**12)),
        *(("lstm", {o: v}) for o in ("embedding", "hidden", "layers") for v in (0, "1", 10**12)),
        *(("stochastic", {"dimZ": v}) for v in (0, -1, "a", 1.5, 10**13)),
        *(("resnet18-gn", {"groups": v}) for v in (0, 3, "2", 1.5)),
    ],
)  # fmt: skip
def test_options_of_models(name, options):
    shape = (80,) if name == "lstm" else (3, 32, 32)
    option = next(iter(options))
    message = f"^({option}|input_shape)[:.]"
    refused(lambda: models.build(name, input_shape=shape, classes=10, **options), message)


@pytest.mark.parametrize(
    "value", [None, "ab", 3, (), (0, 3), (-1,), ("a",), (2.5,), (10**12, 10**12)]
)
def test_shapes_and_classes_of_models(value):
    refused(lambda: models.build("mlp", input_shape=value, classes=3), "^input_shape: expected")
    if value != 3:
        refused(lambda: models.build("mlp", input_shape=(3,), classes=value), "^classes: expected")
