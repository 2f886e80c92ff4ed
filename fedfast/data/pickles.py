"""Pickles of arrays, read without running anything that they name.

A pickle is a program. This reader lets it build plain containers, bytes, text and numbers; the
three names that an array of NumPy needs are answered by stand-ins that only remember what they are
told, so that not even NumPy's own unpickling sees the file; so is the one that old pickles of bytes
need. Any other name is refused.
"""

from __future__ import annotations

import io
import pickle
import reprlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _Stand:
    """What `_reconstruct`, `ndarray` and `dtype` make: arguments and state, kept."""

    arguments: tuple[Any, ...] = ()  # pickles can make an object without calling it
    state: Any = ()

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encode(text: str, codec: str) -> bytes:
    """How Python 3 writes bytes in old protocols: `_codecs.encode(text, "latin1")`."""
    if codec not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it asks for the codec {codec!r}")
    return text.encode("latin-1")


class _Reader(pickle._Unpickler):
    """Python's own reader in Python: that in C makes room for any number a file may name.

    (Its memos lie in an array as long as the largest number, of which five bytes can make 32 GiB.)
    """

    # Byte arrays are made before their bytes are known to be there; NumPy's pickles have none.
    dispatch = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return _Stand

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object of another file")


def read_arrays(path: Path) -> dict[str, Any]:
    """The dict that `path` holds: text keys, arrays of bytes as uint8, all else as it is.

    Raises ValueError naming the file for anything that is no such pickle.
    """
    raw = path.read_bytes()
    try:
        found = _Reader(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may fail in any way that Python knows
        raise ValueError(
            f"{path}: expected a pickle of arrays; found {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a pickled dict; found {type(found).__name__}")
    return {_text(key): _array(path, value) for key, value in found.items()}


def short(value: Any) -> str:
    """What a file holds, for a message: not the whole of what a damaged one may nest."""
    return reprlib.repr(value)[:60]


def _text(key: Any) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _array(path: Path, value: Any) -> Any:
    """A stand-in's state (version, shape, dtype, Fortran order, bytes) as an array."""
    if not isinstance(value, _Stand):
        return value
    state = value.state
    if not isinstance(state, tuple) or len(state) != 5:
        raise ValueError(f"{path}: expected the five parts of an array; found {short(state)}")
    _, shape, dtype, fortran, raw = state
    kind = dtype.arguments[:1] if isinstance(dtype, _Stand) else ()
    if kind not in (("u1",), (b"u1",)) or fortran:
        raise ValueError(f"{path}: expected an array of bytes in C order; found {short(kind)}")
    whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not whole or not isinstance(raw, bytes) or len(raw) != prod(shape):
        size = len(raw) if isinstance(raw, bytes) else type(raw).__name__
        raise ValueError(f"{path}: expected bytes for shape {short(shape)}; found {size}")
    try:
        return np.frombuffer(raw, dtype=np.uint8).reshape(shape)
    except ValueError as error:  # more dimensions, or larger ones, than arrays can have
        raise ValueError(f"{path}: expected a shape; found {short(shape)}: {error}") from error
