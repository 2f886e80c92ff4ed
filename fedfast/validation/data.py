"""Checks of the clients' data, the test set and augmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .._messages import format_value, warn_user
from ..data import AUGMENTS, Augment, FederatedData, Samples, as_samples
from ..data.client_parts import sizes_of
from ..losses import Tried
from .values import OneOf

NO_TESTS = (
    "no test parts of their own; give them some: local_test in a file, "
    "FederatedData.from_arrays(..., test=[...]) or data.with_test([...]) in Python"
)


def clients(value: FederatedData, empty: str) -> FederatedData:
    """Federated data with at least one sample; clients without samples are skipped or refused."""
    if not isinstance(value, FederatedData):
        raise TypeError(
            "clients: expected FederatedData (from a partition, or "
            f"FederatedData.from_arrays([x0, ...], [y0, ...])); got {type(value).__name__}"
        )
    without = np.flatnonzero(value.sizes == 0)
    if len(without) == value.num_clients:
        raise ValueError("clients: nobody has a sample")
    if len(without) and empty == "refuse":
        raise ValueError(
            f"clients: {len(without)} of {value.num_clients} have no samples (the first is client "
            f"{without[0]}); partition again, or empty_clients='skip'"
        )
    if len(without):
        warn_user(
            f"{len(without)} of {value.num_clients} clients have no samples and are never sampled"
        )
    return value


def client_metrics(wanted: bool, data: FederatedData) -> None:
    """ValueError where they are wanted and no client has test samples."""
    if wanted and not (data.test and sizes_of(data.test).any()):
        raise ValueError(f"client_metrics: expected clients with test parts; they have {NO_TESTS}")


def test(
    value: object, data: FederatedData, found: Tried, device: torch.device, dtype: torch.dtype
) -> Samples | None:
    """The test set on the device, shaped like the clients' data."""
    if value is None:
        return None
    samples = as_samples(value, "test")
    if samples.x.shape[1:] != data.x.shape[1:]:
        raise ValueError(
            f"test: expected samples of shape {list(data.x.shape[1:])}; "
            f"got {list(samples.x.shape[1:])}"
        )
    if samples.y.shape[1:] != data.y.shape[1:]:
        raise ValueError(
            f"test: expected targets of shape {['n', *data.y.shape[1:]]} as the clients' data; "
            f"got {list(samples.y.shape)}"
        )
    found.check_labels("test", samples.y)
    if samples.x.dtype != data.x.dtype and torch.uint8 in (samples.x.dtype, data.x.dtype):
        raise ValueError(
            f"test: expected {data.x.dtype} as the clients' data; got {samples.x.dtype}"
        )
    return replace(samples, normalize=samples.normalize or data.normalize).to(device, dtype)


def augment(value: str | Augment | None, data: FederatedData) -> Augment | None:
    """An `Augment`, or one by name, where the data are images of bytes."""
    if value is None:
        return None
    if isinstance(value, str):
        OneOf(tuple(AUGMENTS))("augment", value)
        value = AUGMENTS[value]
    if not isinstance(value, Augment):
        raise TypeError(
            f"augment: expected a name or a fedfast.data.Augment; got {format_value(value)}"
        )
    if data.x.dtype != torch.uint8 or data.x.ndim != 4:
        raise ValueError(
            "augment: expected images of bytes, uint8 [n, C, H, W]; got "
            f"{data.x.dtype} {list(data.x.shape)}"
        )
    return value
