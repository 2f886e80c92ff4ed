"""The idx format of MNIST and its kin (LeCun): magic number, dimensions, then the values."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from .._messages import format_value, path_of
from .dataset import check_md5
from .size_limits import check_memory, read_whole

_DTYPES = {0x08: "u1", 0x0C: ">i4"}  # by the third byte of the magic number
_MOST = 1032  # bytes that deflate can make of one
_PAST = 1 << 16  # bytes read past the expected end, to report how many there are


def read_idx(path: str | Path, ndim: int, md5: str | None = None, kind: int = 0x08) -> np.ndarray:
    """An idx file as an array of `ndim` dimensions; gzipped if its name ends in .gz.

    md5   of the file itself, if it is known
    kind  0x08: unsigned bytes, uint8; 0x0C: int32
    Raises FileNotFoundError, or ValueError with file, expected and found for a file that is not
    gzip, cut short, of another magic number or length, or of another checksum.
    """
    path = path_of("path", path)
    if isinstance(ndim, bool) or not isinstance(ndim, int) or not 1 <= ndim < 256:
        raise ValueError(
            f"ndim: expected a number of dimensions, 1 to 255; got {format_value(ndim)}"
        )
    if not isinstance(kind, int) or kind not in _DTYPES:
        raise ValueError(f"kind: expected one of {list(_DTYPES)}; got {format_value(kind)}")
    if md5 is not None and not isinstance(md5, str):
        raise TypeError(f"md5: expected a checksum in hexadecimal; got {format_value(md5)}")
    packed = read_whole(path)
    raw = io.BytesIO(packed)
    if path.suffix == ".gz":
        with _damage(path, len(packed)), gzip.GzipFile(fileobj=raw) as unpacked:
            array = _parse(cast(BinaryIO, unpacked), ndim, path, kind, _MOST * len(packed))
    else:
        array = _parse(raw, ndim, path, kind, len(packed))
    check_md5(path, packed, md5)
    return array


@contextmanager
def _damage(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise ValueError(
            f"{path}: expected a whole gzip file; found it cut short at {size} bytes"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected a gzip file; found damaged data ({error})") from error


def _parse(stream: BinaryIO, ndim: int, path: Path, kind: int, most: int) -> np.ndarray:
    """The array in a stream of at most `most` bytes: no more is read."""
    shape = _header(stream, ndim, path, kind)
    dtype = np.dtype(_DTYPES[kind])
    size = prod(shape) * dtype.itemsize  # Python integers: a damaged header can name a huge shape
    expected = f"{path}: expected {size} bytes for shape {shape}; found"
    if size > most:
        raise ValueError(f"{expected} a file that holds at most {most}")
    check_memory(str(path), size)
    raw = stream.read(size)
    more = len(stream.read(_PAST))
    if len(raw) != size or more:
        raise ValueError(f"{expected} {'at least ' * (more == _PAST)}{len(raw) + more}")
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def _header(stream: BinaryIO, ndim: int, path: Path, kind: int) -> list[int]:
    """The shape, once the magic number is as it should be."""
    # Third byte: the kind of values; fourth: the number of dimensions.
    magic, head = bytes([0, 0, kind, ndim]), stream.read(4 + 4 * ndim)
    if head[:4] != magic or len(head) < 4 + 4 * ndim:
        found = head[:4].hex(" ") or "nothing"
        raise ValueError(f"{path}: expected idx magic number {magic.hex(' ')}; found {found}")
    return np.frombuffer(head, dtype=">u4", offset=4).tolist()
