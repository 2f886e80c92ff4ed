"""The idx format of MNIST and its kin (LeCun): magic number, dimensions, then the values."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np

from .dataset import check_md5

_DTYPES = {0x08: "u1", 0x0C: ">i4"}  # by the third byte of the magic number


def read_idx(path: str | Path, ndim: int, md5: str | None = None, kind: int = 0x08) -> np.ndarray:
    """An idx file as an array of `ndim` dimensions; gzipped if its name ends in .gz.

    md5   of the file itself, if it is known
    kind  0x08: unsigned bytes, uint8; 0x0C: int32
    Raises FileNotFoundError, or ValueError with file, expected and found for a file that is not
    gzip, cut short, of another magic number or length, or of another checksum.
    """
    path = Path(path)
    packed = path.read_bytes()
    raw = _unpack(packed, path) if path.suffix == ".gz" else packed
    array = _parse(raw, ndim, path, kind)
    check_md5(path, packed, md5)
    return array


def _unpack(packed: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(packed)
    except EOFError as error:
        raise ValueError(
            f"{path}: expected a whole gzip file; found it cut short at {len(packed)} bytes"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected a gzip file; found damaged data ({error})") from error


def _parse(raw: bytes, ndim: int, path: Path, kind: int) -> np.ndarray:
    header = 4 + 4 * ndim
    # Third byte: the kind of values; fourth: the number of dimensions.
    magic = bytes([0, 0, kind, ndim])
    if raw[:4] != magic or len(raw) < header:
        found = raw[:4].hex(" ") or "nothing"
        raise ValueError(f"{path}: expected idx magic number {magic.hex(' ')}; found {found}")
    shape = np.frombuffer(raw, dtype=">u4", count=ndim, offset=4).tolist()
    dtype = np.dtype(_DTYPES[kind])
    size = prod(shape) * dtype.itemsize  # Python's integers: damaged shapes are huge
    if len(raw) - header != size:
        raise ValueError(
            f"{path}: expected {size} bytes for shape {shape}; found {len(raw) - header}"
        )
    return np.frombuffer(raw, dtype=dtype, offset=header).reshape(shape)
