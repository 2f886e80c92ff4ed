"""Clients' parts as one data set, with errors that name the client that does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .._messages import format_value
from .client_parts import ClientParts, as_parts
from .samples import Samples, check_values, unchecked
from .tensors import as_dense
from .transform import Normalize


def shape(x: Tensor) -> str:
    """The shape of one sample, as error messages show it."""
    return ", ".join(map(str, x.shape[1:]))


def check_client(i: object, clients: int) -> None:
    """Raise TypeError or ValueError unless `i` is the number of one of so many clients."""
    if isinstance(i, bool) or not isinstance(i, int | np.integer):
        raise TypeError(f"i: expected a client's number; got {format_value(i)}")
    if not 0 <= i < clients:
        raise ValueError(f"i: expected 0 <= i < {clients}; got {format_value(i)}")


def by_client(name: str, given: object) -> Sequence[object]:
    """One entry per client, client 0 first.

    given  a sequence, an array, or a map {client: entry} whose keys are 0 to N - 1 in any order, as
           integers or, as JSON writes them, as text
    Raises TypeError/ValueError naming the key that is no client, negative, missing or given twice.
    """
    if hasattr(given, "to_dict") and getattr(given, "ndim", 0) == 1:
        given = given.to_dict()  # a Series, whose index names the clients
    if isinstance(given, Mapping):
        return _in_order(name, given)
    if isinstance(given, np.ndarray | Tensor) and given.ndim > 0:
        return list(given)
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise TypeError(
            f"{name}: expected a sequence with one entry per client, or a map {{client: entry}}; "
            f"got {type(given).__name__}"
        )
    return given


def _in_order(name: str, given: Mapping[object, object]) -> list[object]:
    keys = list(given)
    if set(map(type, keys)) == {int} and keys == list(range(len(keys))):
        return list(given.values())
    found: dict[int, object] = {}
    for key, entry in given.items():
        client = _client(name, key)
        if client in found:
            raise ValueError(f"{name}: expected one entry per client; got client {client} twice")
        found[client] = entry
    for i in range(len(found)):
        if i not in found:
            raise ValueError(
                f"{name}: expected clients 0 to {len(found) - 1}; client {i} is missing, "
                f"got {max(found)} as the largest"
            )
    return [found[i] for i in range(len(found))]


def _client(name: str, key: object) -> int:
    text = key if isinstance(key, str) and key.isascii() and len(key) < 20 else ""
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        client = int(key)
    elif text.removeprefix("-").isdecimal():
        client = int(text)
    else:
        raise TypeError(f"{name}: expected integers as keys, one per client; got {key!r:.60}")
    if client < 0:
        raise ValueError(f"{name}: expected clients >= 0 as keys; got {key!r}")
    return client


def concatenate(parts: list[Samples], normalize: Normalize | None) -> Samples:
    """All parts one after another, or the ValueError that names the client that does not fit."""
    first = parts[0].x
    if normalize is None:
        normalize = parts[0].normalize
    elif not isinstance(normalize, Normalize):
        raise TypeError(
            f"normalize: expected a fedfast.data.Normalize; got {format_value(normalize)}"
        )
    else:
        normalize.check("client 0.x", first)
    for i, part in enumerate(parts):
        if part.x.shape[1:] != first.shape[1:] or part.x.dtype != first.dtype:
            raise ValueError(
                f"client {i}.x: expected shape [n, {shape(first)}] and {first.dtype} as client 0; "
                f"got {list(part.x.shape)} and {part.x.dtype}"
            )
    y = next((part.y for part in parts if len(part)), parts[0].y)
    for i, part in enumerate(parts):
        if len(part) and (part.y.shape[1:] != y.shape[1:] or part.y.dtype != y.dtype):
            raise ValueError(
                f"client {i}.y: expected {['n', *y.shape[1:]]} and {y.dtype} as other clients; "
                f"got {list(part.y.shape)} and {part.y.dtype}"
            )
    ys = [part.y if len(part) else y[:0] for part in parts]
    x = torch.cat([part.x for part in parts])
    return Samples(x, torch.cat(ys), normalize)


def test_parts(given: object, samples: Samples, clients: int) -> Sequence[Samples]:
    """One test part per client, of the shape of `samples` and normalized alike unless it says how.

    Raises ValueError naming the client whose part does not fit.
    """
    entries = given if isinstance(given, ClientParts) else by_client("test", given)
    if len(entries) != clients:
        raise ValueError(f"test: expected one per client, {clients}; got {len(entries)}")
    if isinstance(entries, ClientParts):
        made = _whole(entries, samples)
        if made is not None:
            return made
    parts = [unchecked(part, f"test[{i}]") for i, part in enumerate(entries)]
    for i, part in enumerate(parts):
        if part.x.shape[1:] != samples.x.shape[1:]:
            raise ValueError(
                f"test[{i}].x: expected shape [n, {shape(samples.x)}]; got {list(part.x.shape)}"
            )
        if len(part) and part.y.shape[1:] != samples.y.shape[1:]:
            raise ValueError(
                f"test[{i}].y: expected shape {['n', *samples.y.shape[1:]]}; "
                f"got {list(part.y.shape)}"
            )
        check_values(part, f"test[{i}]")
    return as_parts(
        [replace(part, normalize=part.normalize or samples.normalize) for part in parts]
    )


def _whole(parts: ClientParts, samples: Samples) -> ClientParts | None:
    """All parts checked at once, None where one of them does not fit."""
    own = parts.samples
    if own.x.shape[1:] != samples.x.shape[1:] or own.y.shape[1:] != samples.y.shape[1:]:
        return None
    try:
        check_values(own, "test")
    except ValueError:
        return None
    own = Samples(own.x, own.y, own.normalize or samples.normalize)
    return replace(parts, samples=own)


def rows_of_client(i: int, index: object, n: int) -> np.ndarray:
    """The rows of `n` samples that client `i` owns, `[n_i]` int64; errors name the client."""
    rows = _numbers(f"indices[{i}]", index)
    if rows.ndim != 1:
        raise ValueError(f"indices[{i}]: expected shape [n_i]; got {list(rows.shape)}")
    if rows.size == 0:
        return np.empty(0, dtype=np.int64)
    if rows.dtype.kind not in "iu":
        raise TypeError(f"indices[{i}]: expected integers; got dtype {rows.dtype}")
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(
            f"indices[{i}]: client {i}: expected rows in [0, {n}); got {rows.min()}..{rows.max()}"
        )
    return rows.astype(np.int64)


def _numbers(name: str, index: object) -> np.ndarray:
    """The rows as an array, whatever holds them; it is copied later, so that it may be a view."""
    if type(index) is np.ndarray and index.dtype.kind in "iu":
        return index
    if isinstance(index, set | frozenset | str | bytes | Mapping) or not hasattr(index, "__len__"):
        raise TypeError(f"{name}: expected a sequence of rows; got {type(index).__name__}")
    if isinstance(index, Sequence):
        try:
            index = np.asarray(index)
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:
            raise ValueError(f"{name}: expected shape [n_i]; got {error}") from error
        if index.dtype.kind in "biuf":
            return index
        index = index.astype(object)
    return np.asarray(as_dense(index, name).cpu().numpy())
