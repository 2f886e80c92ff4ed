"""`aot.py` for what rounds of W1 and W3 launch, of the sizes that they have there.

python tests/workload_code.py
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator
from typing import Any

import aot
import launch_programs
from torch import Tensor
from torch.utils._pytree import tree_flatten

WORKLOADS = {"W1": 10, "W3": 100}  # clients


def specialized(value: Any) -> Hashable:
    """What Triton compiles a program of its own for, of an argument."""
    if isinstance(value, Tensor):
        return value.dtype, value.data_ptr() % 16 == 0
    if type(value) is int:
        return value if value == 1 else (value % 16 == 0, value >= 2**31)
    return type(value)


def launches() -> Iterator[aot.Launch]:
    """Those of a step of FedSAM under the default precision, and around it, that compile
    differently."""
    known = set()
    for name, clients in WORKLOADS.items():
        for seen in launch_programs.seen(name, clients):
            leaves, spec = tree_flatten(seen.arguments)
            of_arguments = tuple(map(specialized, leaves)), str(spec)
            key = seen.name, repr(sorted(seen.meta.items())), of_arguments
            if seen.phase != "evaluation" and key not in known:
                known.add(key)
                form = f"{name} {seen.operation} {'x'.join(map(str, seen.shape))}".rstrip()
                made = form, "fp32", True, seen.kernel, seen.programs
                yield aot.Launch(*made, seen.tensor, seen.arguments, seen.meta)


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET"):
        raise SystemExit("TRITON_INTERPRET must not be set here")
    aot._LAUNCHES.extend(launches())
    aot.show([(place, 90) for place in range(len(aot._LAUNCHES))])
