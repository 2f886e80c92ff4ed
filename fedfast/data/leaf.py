"""LEAF's JSON (Caldas et al. 2018): samples listed user by user, the natural clients.

    {"users": [u, ...], "num_samples": [n, ...], "user_data": {u: {"x": [...], "y": [...]}}}

One folder per part, train and test, with any number of files. A user may be in both parts.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import cast

import numpy as np
import torch

from .dataset import Data
from .registries import READERS
from .samples import Samples
from .size_limits import read_whole

# The 80 characters of LEAF's Shakespeare, in its order.
LETTERS = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
LENGTH = 80  # characters before the one to be guessed
CODES = {letter: code for code, letter in enumerate(LETTERS)}
UNKNOWN = 255  # code of letters that are none of LEAF's
_TABLE = np.full(128, UNKNOWN, dtype=np.uint8)  # of ASCII
_TABLE[[ord(letter) for letter in LETTERS]] = range(len(LETTERS))
PIXELS, DRAWN = 784, 62  # numbers of a drawing, and classes of FEMNIST

Raw = tuple[object, object]  # x and y as JSON has them
Pair = tuple[np.ndarray, int]
Pairs = tuple[np.ndarray, np.ndarray]  # [n, ...] and [n]
Part = tuple[np.ndarray, np.ndarray, np.ndarray]
Users = dict[str, tuple[list[object], list[object]]]  # all x and all y of each
Decode = Callable[[object, object], Pair]


@dataclass(frozen=True)
class Format:
    """How a data set's samples are written.

    one   (x, y) of a sample; ValueError naming what is wrong with it
    many  all of a file at once, None where a sample is wrong or written in an unusual way
    """

    one: Decode
    many: Callable[[Sequence[object], Sequence[object]], Pairs | None]
    classes: int


@READERS.register("shakespeare")
def shakespeare(name: str, root: Path) -> Data:
    """x int64 [n, 80] tokens, y the next character, owners the roles of the plays."""
    return _load(name, root, Format(_line, _lines, len(LETTERS)))


@READERS.register("femnist")
def femnist(name: str, root: Path) -> Data:
    """x float32 [n, 1, 28, 28], y of 62 classes, owners the writers."""
    return _load(name, root, Format(_drawing, _drawings, DRAWN))


def _line(x: object, y: object) -> Pair:
    if not isinstance(x, str) or len(x) != LENGTH or not set(x) <= CODES.keys():
        raise ValueError(f"x: expected {LENGTH} characters of LEAF's; found {x!r}")
    if not isinstance(y, str) or y not in CODES:
        raise ValueError(f"y: expected a character of LEAF's; found {y!r}")
    return _TABLE[np.frombuffer(x.encode("ascii"), dtype=np.uint8)], CODES[y]


def _lines(xs: Sequence[object], ys: Sequence[object]) -> Pairs | None:
    texts, letters = _texts(xs, LENGTH), _texts(ys, 1)
    if texts is None or letters is None or max(texts.max(), letters.max()) == UNKNOWN:
        return None
    return texts, letters[:, 0].astype(np.int64)


def _texts(values: Sequence[object], length: int) -> np.ndarray | None:
    """Codes [n, length] of texts of so many letters each, UNKNOWN where a letter is none of LEAF's;
    None for anything else."""
    if set(map(type, values)) != {str}:
        return None
    texts = cast(Sequence[str], values)
    whole = "".join(texts)
    if set(map(len, texts)) != {length} or not whole.isascii():
        return None
    return _TABLE[np.frombuffer(whole.encode("ascii"), dtype=np.uint8)].reshape(-1, length)


def _drawings(xs: Sequence[object], ys: Sequence[object]) -> Pairs | None:
    if set(map(type, ys)) != {int} or set(map(type, xs)) != {list}:
        return None
    drawn = cast(Sequence[list[object]], xs)
    if set(map(len, drawn)) != {PIXELS}:
        return None
    flat = list(chain.from_iterable(drawn))
    if not set(map(type, flat)) <= {int, float}:
        return None
    try:
        x, y = np.array(flat, dtype=np.float32), np.array(ys, dtype=np.int64)
    except OverflowError:
        return None
    if not np.isfinite(x).all() or y.min() < 0 or y.max() >= DRAWN:
        return None
    return x.reshape(-1, 1, 28, 28), y


def _drawing(x: object, y: object) -> Pair:
    numbers = x if isinstance(x, list) and all(type(v) in (int, float) for v in x) else []
    if len(numbers) != PIXELS or not all(map(isfinite, numbers)):
        raise ValueError(f"x: expected {PIXELS} finite numbers; found something else")
    if type(y) is not int or not 0 <= y < DRAWN:
        raise ValueError(f"y: expected a class below {DRAWN}; found {y!r}")
    return np.array(numbers, dtype=np.float32).reshape(1, 28, 28), y


def _load(name: str, root: Path, form: Format) -> Data:
    places = [root / name / "data", root / name, root]
    top = next((p for p in places if (p / "train").is_dir() and (p / "test").is_dir()), None)
    if top is None:
        looked = ", ".join(map(str, places))
        raise FileNotFoundError(f"root: data set {name!r} needs folders train and test in {looked}")
    numbers: dict[str, int] = {}  # user -> owner, the same in both parts
    parts = [_part(top / part, form, numbers) for part in ("train", "test")]
    return Data(parts[0], parts[1], name, form.classes)


def _part(place: Path, form: Format, numbers: dict[str, int]) -> Samples:
    """All files, one after another: what JSON makes of one is gone before the next is read."""
    files = sorted(p for p in place.glob("*.json") if not p.name.startswith("."))
    found = [part for path in files if (part := _file(path, form, numbers)) is not None]
    if not found:
        raise ValueError(f"{place}: expected samples in .json files; found none")
    x, y, owner = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*found, strict=True))
    x = x if x.is_floating_point() else x.to(torch.int64)  # tokens, kept small until here
    return Samples(x, y, owner=owner)


def _file(path: Path, form: Format, numbers: dict[str, int]) -> Part | None:
    """(x, y, owners) of all users of a file; None where they have no samples."""
    with _without_collection():  # which looks at all that JSON makes, again and again
        users = _users(path)
        xs = list(chain.from_iterable(x for x, _ in users.values()))
        ys = list(chain.from_iterable(y for _, y in users.values()))
        if not xs:
            return None
        made = form.many(xs, ys) or _one_by_one(path, users, form)
        owners = [numbers.setdefault(user, len(numbers)) for user in users]
        sizes = [len(y) for _, y in users.values()]
        return *made, np.repeat(np.array(owners, dtype=np.int64), sizes)


def _one_by_one(path: Path, users: Users, form: Format) -> Pairs:
    """The same as `form.many`, or the ValueError that names the sample that is wrong."""
    pairs = [
        _decoded(path, user, i, pair, form.one)
        for user, (xs, ys) in users.items()
        for i, pair in enumerate(zip(xs, ys, strict=True))
    ]
    return np.stack([x for x, _ in pairs]), np.array([y for _, y in pairs], dtype=np.int64)


@contextmanager
def _without_collection() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _decoded(path: Path, user: str, i: int, pair: Raw, decode: Decode) -> Pair:
    try:
        return decode(*pair)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: user {user!r}, sample {i}: {error}") from None


def _users(path: Path) -> Users:
    """user -> (all x, all y) of one file, its three lists checked against each other."""
    found = _json(path)
    data, users, counts = (found.get(key) for key in ("user_data", "users", "num_samples"))
    if not isinstance(data, dict) or not isinstance(users, list) or not isinstance(counts, list):
        raise ValueError(f"{path}: expected users, num_samples and user_data; found {list(found)}")
    if len(users) != len(counts) or sorted(map(str, users)) != sorted(data):
        raise ValueError(
            f"{path}: expected one count and one entry per user; found {len(users)} users, "
            f"{len(counts)} counts and {len(data)} entries"
        )
    return {u: _pairs(path, u, n, data[u]) for u, n in zip(map(str, users), counts, strict=True)}


def _pairs(
    path: Path, user: str, count: object, entry: object
) -> tuple[list[object], list[object]]:
    xs = entry.get("x") if isinstance(entry, dict) else None
    ys = entry.get("y") if isinstance(entry, dict) else None
    if not isinstance(xs, list) or not isinstance(ys, list) or not len(xs) == len(ys) == count:
        sizes = [len(part) if isinstance(part, list) else None for part in (xs, ys)]
        raise ValueError(f"{path}: user {user!r}: expected {count} x and y; found {sizes}")
    return xs, ys


def _json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:  # cut short, no JSON, no UTF-8
        raise ValueError(f"{path}: expected JSON; found {type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object; found {type(found).__name__}")
    return found
