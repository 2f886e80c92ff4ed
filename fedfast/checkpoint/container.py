"""One file of tensors with a checksum of every part.

safetensors, whose metadata are `{"manifest": JSON, "sha256": of that text}`. The manifest lists the
parts: name -> [dtype, shape, SHA-256 of the bytes]. So every byte of the file is covered: header
and data by the manifest, the manifest by its checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..row_blocks import BLOCK, ROWS, Damaged, OpenFile, Part, RowsOfFile, blocks_of

Manifest = dict[str, Any]  # JSON
FORMAT = 2
CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write(path: Path, manifest: Mapping[str, object], tensors: Mapping[str, Part]) -> None:
    """Write `tensors` (on the CPU) and the manifest, its list of parts added.

    By hand: the library's writer leaves a temporary file of its own where a process is killed, and
    reports a full disk by a text alone. Raises OSError.
    """
    # Larger items first, so that each part begins at a multiple of its items.
    ordered = dict(sorted(tensors.items(), key=lambda part: (-part[1].dtype.itemsize, part[0])))
    parts = {name: _part(t) for name, t in ordered.items()}
    text = json.dumps({"format": FORMAT, **manifest, "parts": parts}, allow_nan=False)
    metadata = {"manifest": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    header = json.dumps({"__metadata__": metadata, **_places(ordered)}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for t in ordered.values():
            for block in _blocks(t):
                file.write(block)


def _places(tensors: Mapping[str, Part]) -> dict[str, object]:
    """The entries of a safetensors header."""
    made: dict[str, object] = {}
    end = 0
    for name, t in tensors.items():
        begin, end = end, end + t.shape.numel() * t.dtype.itemsize
        kind = CODES[t.dtype]
        made[name] = {"dtype": kind, "shape": list(t.shape), "data_offsets": [begin, end]}
    return made


def read(path: Path, names: set[str] | None = None) -> tuple[Manifest, dict[str, Part]]:
    """(manifest, tensors), every part checked; `names`: only these parts.

    Clients' rows stay in the file, and are checked anew as they are taken from it.

    Raises Damaged naming the file and the part.
    """
    try:
        with safe_open(path, "pt") as file:
            manifest = _manifest(file.metadata() or {})
            found = set(file.keys())
            if found != set(manifest["parts"]):
                raise Damaged("it has other parts than its manifest")
            chosen, rows = sorted(found & (names or found)), OpenFile(path)
            tensors = {name: _taken(file, rows, name, manifest) for name in chosen}
        for name, t in tensors.items():
            if _part(t) != manifest["parts"][name]:
                raise Damaged(f"the checksum of its part {name} is another")
    except (SafetensorError, Damaged, ValueError, RuntimeError, MemoryError, KeyError) as error:
        raise Damaged(f"{path}: not a saved simulation, or a damaged one: {error}") from error
    return manifest, tensors


def _taken(file: safe_open, rows: OpenFile, name: str, manifest: Manifest) -> Part:
    """A part of a file. Tensors are copies: the library's are the file itself, which may change."""
    if name.startswith(ROWS):
        return RowsOfFile.of(rows, name, manifest["parts"][name])
    found: Tensor = file.get_tensor(name).clone()
    return found


def digest(*tensors: Part) -> str:
    """SHA-256 over the bytes of tensors on any device, block by block."""
    total = hashlib.sha256()
    for t in tensors:
        for block in _blocks(t):
            total.update(block)
    return total.hexdigest()


def _blocks(t: Part) -> Iterator[memoryview]:
    """The bytes of a tensor on any device, or of one that comes in blocks."""
    for block in blocks_of(t):
        yield from _bytes(block)


def _bytes(t: Tensor) -> Iterator[memoryview]:
    flat = t.detach().contiguous().reshape(-1)
    many = max(1, BLOCK // max(1, flat.element_size()))
    for start in range(0, len(flat), many):
        part = flat[start : start + many].cpu().contiguous()
        yield part.view(torch.uint8).numpy().data


def _part(t: Part) -> list[object]:
    return [str(t.dtype).removeprefix("torch."), list(t.shape), digest(t)]


def _manifest(metadata: Mapping[str, str]) -> Manifest:
    if set(metadata) != {"manifest", "sha256"}:
        raise Damaged("it has no manifest")
    if hashlib.sha256(metadata["manifest"].encode()).hexdigest() != metadata["sha256"]:
        raise Damaged("the checksum of its manifest is another")
    manifest = json.loads(metadata["manifest"])
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise Damaged(f"expected format {FORMAT}, found {got}")
    if not isinstance(manifest.get("parts"), dict):
        raise Damaged("its manifest lists no parts")
    return manifest
