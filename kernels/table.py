"""The table of operations: `python -m fedfast.kernels.table` prints docs/ops.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from . import native
from .declaration import OPERATIONS, Operation
from .registry import BACKENDS, Implementations
from .triton import common

HEADS = ("operation", "arguments", "bytes moved", "backends", "tests beside `test_operations.py`")
SERVED = {"native": native.DTYPES, "triton": common.DTYPES}
ABOUT = """\
# Operations

Made from the declarations in `kernels/` by `make docs`; do not edit.

Shapes are letters: K clients, S elements of a row, L segments, B rows of a batch, I inputs and O
outputs, C channels or classes, H W sides of an image, P Q those of a result, T steps, V words, E
elements of a word's vector; "..." any dimensions. *In italics* what is written, [in brackets] what
may be left out. *Bytes moved* names tensors, each as many times as it crosses memory in one call; J
is the number of terms.

Every backend serves all its dtypes in every operation and is compared with the reference in float64
by `tests/test_operations.py`, which also holds it to the same bits for a client alone and in
company, for any threads, and wherever tensors lie:

"""


def markdown(tests: Path) -> str:
    """The page; tests: the folder in which an operation's own tests are looked for."""
    rows = [_row(operation, tests) for operation in sorted(OPERATIONS.values(), key=_name)]
    return f"{ABOUT}{_backends()}\n{_line(HEADS)}{_line(['---'] * len(HEADS))}{''.join(rows)}"


def _name(operation: Operation) -> str:
    return operation.name


def _backends() -> str:
    """One line for each backend: its dtypes."""
    lines = []
    for name in BACKENDS[1:]:
        dtypes = [str(dtype).removeprefix("torch.") for dtype in SERVED.get(name, ())]
        lines.append(f"- *{name}*: {', '.join(dtypes) or 'any floating dtype, on any device'}\n")
    return "".join(lines)


def _row(operation: Operation, tests: Path) -> str:
    words = operation.module, operation.module.rpartition("_")[2]
    own = [f"test_{word}.py" for word in words if (tests / f"test_{word}.py").exists()]
    implementations = Implementations(operation)
    served = [name for name in BACKENDS[1:] if implementations[name] is not None]
    cells = (f"`{operation.name}`", ", ".join(_arguments(operation)), operation.moves)
    return _line((*cells, ", ".join(served), f"`{own[0]}`" if own else ""))


def _arguments(operation: Operation) -> Iterator[str]:
    for argument in operation.items:
        if argument.public:
            shape = f"\\[{argument.shape}\\]" if argument.shape else ""
            kind = f" {argument.dtype}".replace("torch.", "") if argument.dtype else ""
            text = f"{argument.name} {shape}{kind}".strip()
            text = f"*{text}*" if argument.written else text
            yield f"[{text}]" if argument.optional else text


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.stdout.write(markdown(Path("tests")))
