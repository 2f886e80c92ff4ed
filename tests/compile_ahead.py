"""Some operations compiled by two processes, as a campaign has it, then launched by a third.

Run as a script without TRITON_INTERPRET and with an empty cache of Triton's: prints what each of
them compiled and found in the cache.
"""

from __future__ import annotations

import json
import sys
from multiprocessing import get_context
from pathlib import Path

import operation_forms
import torch._dynamo  # noqa: F401  # what modes of dispatch need: here once, not in each process
import torch._meta_registrations  # noqa: F401

sys.path.append(str(Path(__file__).parents[1] / "bench"))

from gpu_sections import compiling  # noqa: E402

OPERATIONS = ("mix", "pick")


def share(index: int, count: int) -> dict[str, int]:
    """Of one process, as far as Triton's own representation."""
    return dict(compiling.main("operations", index, count, 90, whole=False))


if __name__ == "__main__":
    operation_forms.CASES = {name: operation_forms.CASES[name] for name in OPERATIONS}
    found = []
    for shares in ([(0, 2), (1, 2)], [(0, 1)]):  # processes of their own: nothing is in memory
        with get_context("fork").Pool(len(shares)) as pool:
            found += pool.starmap(share, shares, chunksize=1)
    print(json.dumps(found))
