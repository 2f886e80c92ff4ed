"""Data sets as plain arrays in files, which are mapped: they may be larger than memory.

    root/train/x.npy, y.npy and perhaps owner.npy; root/test/ likewise, or no test part
    root/meta.json

x.npy is uint8 [n, C, H, W] (images), int64 [n, L] (tokens) or float32 [n, ...]; it may also be
x.bin, the numbers alone, whose type and shape meta.json names. Labels and owners are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from .._messages import path_of
from ..files import atomic
from .dataset import Data
from .registries import READERS
from .samples import Samples, as_samples
from .size_limits import check_memory
from .transform import Normalize

META = "meta.json"
KEYS = ("classes", "mean", "std", "x")
PARTS = ("train", "test")


@READERS.register("arrays")
def arrays(
    name: str, root: Path, mmap: Annotated[bool, "read samples as they are needed"] = True
) -> Data:
    """x.npy (or x.bin), y.npy, owner.npy in root/train and root/test; meta.json beside them.

    mmap  leave x in its file, of which rows are read as they are trained on; False: read it
    meta.json, which may be missing: {"classes": 10, "mean": [..], "std": [..], "x": {"dtype":
    "uint8", "shape": [3, 32, 32]}}, mean and std what bytes are normalized by, per channel.
    """
    places = [root / name, root]
    top = next((place for place in places if (place / "train").is_dir()), None)
    if top is None:
        raise FileNotFoundError(f"root: expected a folder train in {root}; found none")
    meta = _meta(top / META)
    train = _part(top / "train", meta, mmap)
    test = _part(top / "test", meta, mmap) if (top / "test").is_dir() else None
    return Data(train, test, name, _classes(top / META, meta.get("classes"), train, test))


def _classes(path: Path, given: object, train: Samples, test: Samples | None) -> int:
    if train.y.ndim > 1:
        return train.y.shape[1]
    counted = 1 + max(int(part.y.max()) for part in (train, test) if part is not None)
    if given is None:
        return counted
    if type(given) is not int or given < counted:
        raise ValueError(
            f"{path}: classes: expected an integer of at least {counted}, one more than the "
            f"largest label; found {given!r}"
        )
    return given


def save_arrays(data: Data | Samples, folder: str | Path) -> None:
    """Write `data` as the reader "arrays" reads it; Samples alone are a train part.

    Files of the same names are replaced. Raises TypeError for anything else, ValueError where the
    folder has a part or owners that `data` has not, for these would be read with it; OSError naming
    the file that cannot be written.
    """
    if not isinstance(data, Data | Samples):
        raise TypeError(f"data: expected Data or Samples; got {type(data).__name__}")
    top = path_of("folder", folder)
    train, test = (data.train, data.test) if isinstance(data, Data) else (data, None)
    parts = dict(zip(PARTS, (train, test), strict=True))
    _check_left(top, parts)
    for name, part in parts.items():
        if part is not None:
            _write(top / name, part)
    meta: dict[str, object] = {} if isinstance(data, Samples) else {"classes": data.classes}
    if train.normalize is not None:
        meta |= {"mean": train.normalize.mean, "std": train.normalize.std}
    text = json.dumps(meta)
    atomic(top / META, lambda new: new.write_text(text, encoding="utf-8"))


def _check_left(top: Path, parts: Mapping[str, Samples | None]) -> None:
    """ValueError naming a file of other data that would stay beside what is saved."""
    for name, part in parts.items():
        left = top / name if part is None else top / name / "owner.npy"
        if left.exists() and (part is None or part.owner is None):
            raise ValueError(f"folder: expected a new one; {left} is there, which data has not")


def _write(folder: Path, part: Samples) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    owner = {} if part.owner is None else {"owner": part.owner}
    for name, t in {"x": part.x, "y": part.y, **owner}.items():
        atomic(folder / f"{name}.npy", partial(_save, t.cpu().numpy()))


def _save(array: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _meta(path: Path) -> Mapping[str, object]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON; found {error}") from error
    if not isinstance(found, dict) or not found.keys() <= set(KEYS):
        raise ValueError(f"{path}: expected an object with some of {', '.join(KEYS)}")
    return found


def _part(folder: Path, meta: Mapping[str, object], mmap: bool) -> Samples:
    x, y = _inputs(folder, meta, mmap), _array(folder / "y.npy", False)
    owner = _array(folder / "owner.npy", False) if (folder / "owner.npy").exists() else None
    normalize = Normalize(*_tones(folder, meta)) if x.dtype == np.uint8 else None
    try:
        made = as_samples((x, y), "samples")
        if owner is not None and owner.shape != y.shape[:1]:
            raise ValueError(f"owner: expected {len(y)} integers; got {list(owner.shape)}")
        if normalize is not None:
            normalize.check("x", made.x)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder}: {error}") from error
    of = None if owner is None else torch.from_numpy(owner.astype(np.int64))
    return Samples(made.x, made.y, normalize, of)


def _inputs(folder: Path, meta: Mapping[str, object], mmap: bool) -> np.ndarray:
    raw = folder / "x.bin"
    if (folder / "x.npy").exists() or not raw.exists():
        return _array(folder / "x.npy", mmap)
    about = meta.get("x")
    try:
        assert isinstance(about, dict)
        kind, shape = np.dtype(about["dtype"]), tuple(map(int, about["shape"]))
        flat = np.memmap(raw, kind, "r")
        x = flat.reshape(-1, *shape)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{raw}: expected samples as {META} says, {{"x": {{"dtype": .., "shape": [..]}}}}, '
            f"which has {about!r} ({error})"
        ) from error
    return x if mmap else _read(raw, x)


def _array(path: Path, mmap: bool) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected this file; found none")
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: expected an array of numpy (.npy); found {error}") from error
    return mapped if mmap else _read(path, mapped)


def _read(path: Path, mapped: np.ndarray) -> np.ndarray:
    check_memory(str(path), mapped.nbytes)
    return np.array(mapped)


def _tones(folder: Path, meta: Mapping[str, object]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    found = [meta.get(key, default) for key, default in (("mean", 0.0), ("std", 1.0))]
    lists = [tuple(v) if isinstance(v, list) else (v,) for v in found]
    return lists[0], lists[1]
