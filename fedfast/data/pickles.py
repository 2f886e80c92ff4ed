"""Pickles of arrays, read without running anything that they name.

A pickle is a program. This reader lets it build containers, bytes, text and numbers only. The names
that arrays and numbers of NumPy need are placeholders that record their arguments, so that not even
NumPy's own unpickling runs on the file; the one that old pickles of bytes need is a function below.
Any other name raises.
"""

from __future__ import annotations

import io
import pickle
import reprlib
from math import prod
from pathlib import Path

import numpy as np

from .size_limits import read_whole

_INTEGERS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}


class _Placeholder:
    """In place of what a name of NumPy makes: its arguments and its state."""

    arguments: tuple[object, ...] = ()  # pickles can make an object without calling it
    state: object = ()

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Buffer(_Placeholder):
    """`_frombuffer(bytes, dtype, shape, order)`: an array of protocol 5."""


class _Scalar(_Placeholder):
    """`scalar(dtype, bytes)`: one number."""


_NAMES: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Placeholder,
    ("numpy", "dtype"): _Placeholder,
    ("collections", "OrderedDict"): dict,
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Placeholder
    _NAMES[f"{_core}.multiarray", "scalar"] = _Scalar
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _Buffer


def _encode(text: str, codec: str) -> bytes:
    """How Python 3 writes bytes in old protocols: `_codecs.encode(text, "latin1")`."""
    if codec not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it asks for the codec {codec!r}")
    return text.encode("latin-1")


class _Reader(pickle._Unpickler):
    """Python's own reader in Python: the one in C allocates as much as a file asks for.

    (Its memo is an array as long as the largest index, and five bytes can name 32 GiB.)
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def load_bytearray8(self) -> None:
        """A byte array; Python's own allocates it before checking that the bytes are there."""
        size = int.from_bytes(self.read(8), "little")  # type: ignore[attr-defined]
        raw = self.read(size) if size < 1 << 62 else b""  # type: ignore[attr-defined]
        if len(raw) != size:
            raise pickle.UnpicklingError(f"it is cut short: {size} bytes are not there")
        self.append(bytearray(raw))  # type: ignore[attr-defined]

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8  # type: ignore[assignment]

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return _NAMES[module, name]

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("it asks for an object of another file")


def read_arrays(path: Path) -> dict[str, object]:
    """The dict that `path` holds: text keys, arrays and numbers of integers, all else as it is.

    Raises ValueError naming the file for anything that is no such pickle.
    """
    raw = read_whole(path)
    try:
        found = _Reader(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            f"{path}: expected a pickle of arrays; found {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a pickled dict; found {type(found).__name__}")
    return {_text(key): _value(path, value) for key, value in found.items()}


def short(value: object) -> str:
    """What a file holds, for a message: not the whole of what a damaged one may nest."""
    return reprlib.repr(value)[:60]


def _text(key: object) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _value(path: Path, value: object) -> object:
    """A placeholder, or a list of them, as the value that it was made for."""
    if isinstance(value, _Scalar):
        return _number(path, value)
    if isinstance(value, list | tuple):
        return [_number(path, item) if isinstance(item, _Scalar) else item for item in value]
    return _array(path, value) if isinstance(value, _Placeholder) else value


def _number(path: Path, value: _Scalar) -> int:
    dtype, raw = value.arguments if len(value.arguments) == 2 else (None, None)
    kind = _dtype(path, dtype)
    if not isinstance(raw, bytes) or len(raw) != kind.itemsize:
        raise ValueError(f"{path}: expected the bytes of a number; found {short(raw)}")
    return int(np.frombuffer(raw, dtype=kind)[0])


def _array(path: Path, value: _Placeholder) -> np.ndarray:
    """The parts of a placeholder (shape, dtype, order, bytes) as an array."""
    shape, dtype, fortran, raw = _parts(path, value)
    kind = _dtype(path, dtype)
    sized = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not isinstance(shape, tuple) or not sized or not isinstance(raw, bytes | bytearray):
        raise ValueError(f"{path}: expected bytes for shape {short(shape)}; found {short(raw)}")
    if len(raw) != prod(shape) * kind.itemsize:
        raise ValueError(f"{path}: expected bytes for shape {short(shape)}; found {len(raw)}")
    try:
        return np.frombuffer(raw, dtype=kind).reshape(shape, order="F" if fortran else "C")
    except ValueError as error:  # more dimensions, or larger ones, than arrays can have
        raise ValueError(f"{path}: expected a shape; found {short(shape)}: {error}") from error


def _parts(path: Path, value: _Placeholder) -> tuple[object, object, bool, object]:
    """(shape, dtype, Fortran order, bytes)."""
    if isinstance(value, _Buffer) and len(value.arguments) == 4:
        raw, dtype, shape, order = value.arguments
        return shape, dtype, order in ("F", b"F"), raw
    if isinstance(value, _Buffer) or not isinstance(value.state, tuple) or len(value.state) != 5:
        raise ValueError(f"{path}: expected the five parts of an array; found {short(value.state)}")
    _, shape, dtype, fortran, raw = value.state
    return shape, dtype, bool(fortran), raw


def _dtype(path: Path, value: object) -> np.dtype[np.integer]:
    """The integer type that a placeholder of `dtype("i8", ...)` with state (3, "<", ...) names."""
    named, state = (
        (value.arguments[:1], value.state) if isinstance(value, _Placeholder) else ((), ())
    )
    name = _text(named[0]) if named else ""
    if name not in _INTEGERS:
        raise ValueError(f"{path}: expected an array of integers; found {short(named)}")
    order = _text(state[1]) if isinstance(state, tuple) and len(state) > 1 else "|"
    return np.dtype((">" if order == ">" else "<") + name)
