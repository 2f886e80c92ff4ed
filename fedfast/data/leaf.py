"""LEAF's JSON (Caldas et al. 2018): samples listed user by user, the natural clients.

    {"users": [u, ...], "num_samples": [n, ...], "user_data": {u: {"x": [...], "y": [...]}}}

One folder per part, train and test, with any number of files. A user may be in both parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isfinite
from pathlib import Path

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
_TABLE = np.zeros(128, dtype=np.uint8)  # of ASCII
_TABLE[[ord(letter) for letter in LETTERS]] = range(len(LETTERS))

Raw = tuple[object, object]  # x and y as JSON has them
Pair = tuple[np.ndarray, int]
Decode = Callable[[object, object], Pair]


@READERS.register("shakespeare")
def shakespeare(name: str, root: Path) -> Data:
    """x int64 [n, 80] tokens, y the next character, owners the roles of the plays."""
    return _load(name, root, _line, len(LETTERS))


@READERS.register("femnist")
def femnist(name: str, root: Path) -> Data:
    """x float32 [n, 1, 28, 28], y of 62 classes, owners the writers."""
    return _load(name, root, _drawing, 62)


def _line(x: object, y: object) -> Pair:
    if not isinstance(x, str) or len(x) != LENGTH or not set(x) <= CODES.keys():
        raise ValueError(f"x: expected {LENGTH} characters of LEAF's; found {x!r}")
    if not isinstance(y, str) or y not in CODES:
        raise ValueError(f"y: expected a character of LEAF's; found {y!r}")
    return _TABLE[np.frombuffer(x.encode("ascii"), dtype=np.uint8)], CODES[y]


def _drawing(x: object, y: object) -> Pair:
    numbers = x if isinstance(x, list) and all(type(v) in (int, float) for v in x) else []
    if len(numbers) != 784 or not all(map(isfinite, numbers)):
        raise ValueError("x: expected 784 finite numbers; found something else")
    if type(y) is not int or not 0 <= y < 62:
        raise ValueError(f"y: expected a class below 62; found {y!r}")
    return np.array(numbers, dtype=np.float32).reshape(1, 28, 28), y


def _load(name: str, root: Path, decode: Decode, classes: int) -> Data:
    places = [root / name / "data", root / name, root]
    top = next((p for p in places if (p / "train").is_dir() and (p / "test").is_dir()), None)
    if top is None:
        looked = ", ".join(map(str, places))
        raise FileNotFoundError(f"root: data set {name!r} needs folders train and test in {looked}")
    numbers: dict[str, int] = {}  # user -> owner, the same in both parts
    parts = [_part(top / part, decode, numbers) for part in ("train", "test")]
    return Data(parts[0], parts[1], name, classes)


def _part(place: Path, decode: Decode, numbers: dict[str, int]) -> Samples:
    xs: list[np.ndarray] = []
    ys: list[int] = []
    owners: list[int] = []
    for path in sorted(p for p in place.glob("*.json") if not p.name.startswith(".")):
        for user, pairs in _users(path).items():
            owner = numbers.setdefault(user, len(numbers))
            for i, pair in enumerate(pairs):
                xs_i, y = _decoded(path, user, i, pair, decode)
                xs.append(xs_i)
                ys.append(y)
                owners.append(owner)
    if not xs:
        raise ValueError(f"{place}: expected samples in .json files; found none")
    x, owner_of = torch.from_numpy(np.stack(xs)), torch.tensor(owners, dtype=torch.int64)
    x = x if x.is_floating_point() else x.to(torch.int64)  # tokens, kept small until here
    return Samples(x, torch.tensor(ys, dtype=torch.int64), owner=owner_of)


def _decoded(path: Path, user: str, i: int, pair: Raw, decode: Decode) -> Pair:
    try:
        return decode(*pair)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: user {user!r}, sample {i}: {error}") from None


def _users(path: Path) -> dict[str, list[Raw]]:
    """user -> [(x, y), ...] of one file, its three lists checked against each other."""
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


def _pairs(path: Path, user: str, count: object, entry: object) -> list[Raw]:
    xs = entry.get("x") if isinstance(entry, dict) else None
    ys = entry.get("y") if isinstance(entry, dict) else None
    if not isinstance(xs, list) or not isinstance(ys, list) or not len(xs) == len(ys) == count:
        sizes = [len(part) if isinstance(part, list) else None for part in (xs, ys)]
        raise ValueError(f"{path}: user {user!r}: expected {count} x and y; found {sizes}")
    return list(zip(xs, ys, strict=True))


def _json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:  # cut short, no JSON, no UTF-8
        raise ValueError(f"{path}: expected JSON; found {type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object; found {type(found).__name__}")
    return found
