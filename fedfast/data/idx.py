"""The idx format of MNIST and its kin (LeCun): magic number, dimensions, then unsigned bytes."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np


def read_idx(path: str | Path, ndim: int, md5: str | None = None) -> np.ndarray:
    """A gzipped idx file of unsigned bytes as uint8 of `ndim` dimensions.

    md5  of the .gz file itself, if it is known
    Raises FileNotFoundError, or ValueError with file, expected and found for a file that is not
    gzip, cut short, of another magic number or length, or of another checksum.
    """
    path = Path(path)
    packed = path.read_bytes()
    array = _parse(_unpack(packed, path), ndim, path)
    found = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise ValueError(f"{path}: expected MD5 {md5}; found {found}: not the canonical file")
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


def _parse(raw: bytes, ndim: int, path: Path) -> np.ndarray:
    header = 4 + 4 * ndim
    # Third byte 8: unsigned bytes; fourth: the number of dimensions.
    expected = f"00 00 08 {ndim:02x}"
    if raw[:4] != bytes([0, 0, 8, ndim]) or len(raw) < header:
        found = raw[:4].hex(" ") or "nothing"
        raise ValueError(f"{path}: expected idx magic number {expected}; found {found}")
    shape = np.frombuffer(raw, dtype=">u4", count=ndim, offset=4).astype(np.int64)
    if len(raw) - header != shape.prod():
        raise ValueError(
            f"{path}: expected {shape.prod()} bytes for shape {shape.tolist()}; "
            f"found {len(raw) - header}"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)
