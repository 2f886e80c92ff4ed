"""One file of tensors with a checksum of every part.

safetensors, whose metadata are `{"manifest": JSON, "sha256": of that text}`. The manifest lists the
parts: name -> [dtype, shape, SHA-256 of the bytes]. So every byte of the file is covered: header
and data by the manifest, the manifest by its checksum.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = 2
BLOCK = 1 << 26  # bytes that are hashed, or brought from a device, at once


class Damaged(ValueError):
    """A file that is no saved simulation, or no longer what was saved."""


def write(path: Path, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` (on the CPU) and the manifest, its list of parts added. Raises OSError."""
    held = {name: t.contiguous() for name, t in tensors.items()}
    parts = {name: _part(t) for name, t in held.items()}
    text = json.dumps({"format": FORMAT, **manifest, "parts": parts}, allow_nan=False)
    about = {"manifest": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    try:
        save_file(held, path, about)
    except SafetensorError as error:  # what the system says is in its text alone
        told = re.search(r"os error (\d+)", str(error))
        raise OSError(int(told[1]) if told else errno.EIO, str(error)) from error


def read(path: Path, names: set[str] | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(manifest, tensors), every part checked; `names`: only these parts.

    Raises Damaged naming the file and the part.
    """
    try:
        with safe_open(path, "pt") as file:
            manifest = _manifest(file.metadata() or {})
            found = set(file.keys())
            if found != set(manifest["parts"]):
                raise Damaged("it has other parts than its manifest")
            tensors = {name: file.get_tensor(name) for name in sorted(found & (names or found))}
        for name, t in tensors.items():
            if _part(t) != manifest["parts"][name]:
                raise Damaged(f"the checksum of its part {name} is another")
    except (SafetensorError, Damaged, ValueError, RuntimeError, MemoryError, KeyError) as error:
        raise Damaged(f"{path}: not a saved simulation, or a damaged one: {error}") from error
    return manifest, tensors


def digest(*tensors: Tensor) -> str:
    """SHA-256 over the bytes of tensors on any device, block by block."""
    total = hashlib.sha256()
    for t in tensors:
        flat = t.detach().contiguous().reshape(-1)
        many = max(1, BLOCK // max(1, flat.element_size()))
        for start in range(0, len(flat), many):
            part = flat[start : start + many].cpu().contiguous()
            total.update(part.view(torch.uint8).numpy().data)
    return total.hexdigest()


def _part(t: Tensor) -> list[Any]:
    return [str(t.dtype).removeprefix("torch."), list(t.shape), digest(t)]


def _manifest(about: Mapping[str, str]) -> dict[str, Any]:
    if set(about) != {"manifest", "sha256"}:
        raise Damaged("it has no manifest")
    if hashlib.sha256(about["manifest"].encode()).hexdigest() != about["sha256"]:
        raise Damaged("the checksum of its manifest is another")
    manifest = json.loads(about["manifest"])
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise Damaged(f"expected format {FORMAT}, found {got}")
    if not isinstance(manifest.get("parts"), dict):
        raise Damaged("its manifest lists no parts")
    return manifest
