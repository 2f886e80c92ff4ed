"""The table of algorithms, made from their pages: `python -m fedfast.report.pages` prints it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

from ..algorithms import PAGES, Algorithm, Layout
from ..kernels import Segments

HEADS = ("name", "page", "client keeps", "server keeps", "gradients", "down / up", "verified")
ABOUT = """\
# Algorithms

Made from the pages in `fedfast/algorithms/` by `make docs`; do not edit.

Every algorithm is a local optimizer under a drift correction under a server rule; each piece can be
exchanged where that has a meaning: `FedDyn(local=SAM(rho=0.1))`, `FedGH(drift=Prox(mu=0.01))`, in a
config `local: {name: sam, rho: 0.1}`.

- *client keeps*: rows of model size and small values kept for each client across rounds.
  *server keeps*: besides the model.
- *gradients*: per local step.
- *down / up*: model sizes per client and round, the minimum; in brackets what official code sends,
  where that is more.
- *verified*: round by round at 1e-12 in float64, against a run of public code or of the paper's
  formula kept as numbers (`tests/oracles/*.npz`), or against a script of the formula in autograd.

PLGU has no usable source beyond its abstract and is not here.
"""


def markdown() -> str:
    """The document."""
    lines = [HEADS, ("---",) * len(HEADS), *(_cells(page()) for page in PAGES.values())]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([ABOUT, table, "", *_pages(), OWN])


def _cells(made: Algorithm) -> tuple[str, ...]:
    module = type(made).__module__.rsplit(".", 1)[1]
    down, up = made.traffic()
    code = "" if made.official is None else f" ({made.official[0]} / {made.official[1]})"
    server = [*made.server_rows(), *made.server_scalars()]
    moments = made.server.kernel(1.0).moments
    server += ["m", "v"][:moments]
    return (
        f"`{made.name}`",
        f"[{type(made).__name__}](../fedfast/algorithms/{module}.py)",
        ", ".join([*made.client_rows(), *_values(made)]) or "–",
        ", ".join(server) or "–",
        str(made.gradients) if not made.pools else "1",
        f"{down} / {up}{code}",
        made.verified,
    )


def _values(made: Algorithm) -> tuple[str, ...]:
    """Names of the small client values; a model of some layers stands in for the user's."""
    layers = 8
    segments = Segments.of(range(layers), [1] * layers)
    names = tuple(f"{i}.weight" for i in range(layers))
    return tuple(made.client_values(Layout(names, segments, layers)))


def _pages() -> Iterator[str]:
    """Each page's own words, once per file."""
    modules = dict.fromkeys(page.__module__ for page in PAGES.values())
    for name in modules:
        text = inspect.getdoc(sys.modules[name]) or ""
        yield f"## {name.rsplit('.', 1)[1]}\n\n```text\n{text}\n```\n"


OWN = """\
## Adding your own

One page: the formula in the docstring, the pieces that differ from FedAvg's, nothing else. The
engine gathers and scatters the rows a piece names, sums what it asks for, and hands everything to
the fused operations; a page never loops over parameters or clients. `examples/own_algorithm.py` is
a whole one, run by the tests; `fedfast/algorithms/pieces.py` lists what a piece can be asked. Pass
an object of the class to `Simulation`; to reach it by name from configs, add it to `PAGES` in
`fedfast/algorithms/__init__.py`.
"""


if __name__ == "__main__":
    print(markdown(), end="")
