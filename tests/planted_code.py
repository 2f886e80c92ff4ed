"""`linear`'s product with a fault in it, compiled for Hopper: what budgets have to find.

python tests/planted_code.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aot
import layer_forms
import machine_code
import torch
from fedfast.kernels.triton import products

PIECE = "r = start + tl.arange(0, BLOCK[2])"
DIVIDED = f"{PIECE} + ((start + k) // (k + 7)).to(tl.int32)"
# What stands in the source, and in its place.
FAULTS = {
    "none": ("", ""),
    "a division of 64 bits in the loop": (
        PIECE,
        f"{PIECE} + ((start + k) // (k + 7)).to(tl.int32)",
    ),
    "rows no longer known to be multiples of 16 bytes": ("R, UNITS[", "R, 1 + 0 * UNITS["),
    "products without tensor cores": ("z, PRECISION)", 'z, "ieee")'),
    "a tile too large": ("", ""),
}


def launches(folder: Path) -> Iterator[tuple[str, aot.Launch]]:
    """The launch of form "linear tf32", once for each fault."""
    forms = dict(layer_forms.linear_forms(torch.float32, True))
    (plain,) = aot.launches(torch.float32, True, iter([("", forms["linear tf32"])]))
    for place, (fault, change) in enumerate(FAULTS.items()):
        meta = dict(plain.meta)
        if fault == "a tile too large":
            meta["BLOCK"] = 128, 128, 32
        yield fault, replace(plain, kernel=_changed(folder / f"_{place}.py", change), meta=meta)


def _changed(path: Path, change: tuple[str, str]) -> Any:
    """`_product` of a copy of its module."""
    source = Path(str(products.__file__)).read_text()
    assert change[0] in source, change
    path.write_text(source.replace(*change) if change[0] else source)
    spec = spec_from_file_location(f"{products.__package__}.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made._product


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET"):
        raise SystemExit("TRITON_INTERPRET must not be set here")
    with TemporaryDirectory() as name:
        found = [(fault, *aot.compiled(each, 90)) for fault, each in launches(Path(name))]
    codes = machine_code.disassembled([code for _, _, code in found])
    for (fault, row, _), code in zip(found, codes, strict=True):
        print(json.dumps(row | dict(fault=fault, code=machine_code.counts(code))))
