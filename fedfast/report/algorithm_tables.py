"""The table of algorithms: `python -m fedfast.report.algorithm_tables` prints it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import torch

from ..algorithms import ALGORITHMS, Algorithm, TrainedLayout
from ..kernels import Segments

HEADS = ("name", "class", "client keeps", "server keeps", "gradients", "down / up", "verified")
ABOUT = """\
# Algorithms

Generated from the docstrings in `fedfast/algorithms/` by `make docs`; do not edit.

Every algorithm is a local optimizer under a drift correction under a server rule; each of these
components can be exchanged where that has a meaning: `FedDyn(local=SAM(rho=0.1))`,
`FedGH(drift=Prox(mu=0.01))`, in a config `local: {name: sam, rho: 0.1}`. Any of them takes
`fine_tune=FineTune(epochs=10)`: after the last round every client trains the final model's last
layer for itself; and `keep_models=True`: every client keeps its last local model. Personal models,
where there are any (so do FedFSA, FedALA and FedCR themselves), come from
`sim.client_state_dict(i)`; `sim.evaluate_clients()` tests them and the global model on the clients'
own test parts.

- *client keeps*: rows of model size and small values kept for each client across rounds.
  *server keeps*: besides the model.
- *gradients*: per local step.
- *down / up*: model sizes per client and round, the minimum; in brackets what official code sends,
  where that is more.
- *verified*: round by round at 1e-12 in float64, against a run of public code or of the paper's
  formula kept as numbers (`tests/oracles/*.npz`), or against a script of the formula in autograd.

PLGU has no usable source beyond its abstract and is not here: `by_name("plgu")` raises.
"""


def markdown() -> str:
    """The document."""
    lines = [HEADS, ("---",) * len(HEADS), *(_cells(page()) for page in ALGORITHMS.values())]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([ABOUT, table, "", *_pages(), OWN])


def _cells(made: Algorithm) -> tuple[str, ...]:
    module = type(made).__module__.rsplit(".", 1)[1]
    down, up = made.traffic()
    code = "" if made.official is None else f" ({made.official[0]} / {made.official[1]})"
    server = [*made.server_rows(), *made.server_values(_layout()), *made.server_scalars()]
    moments = made.server.kernel(1.0).moments
    server += ["m", "v"][:moments]
    return (
        f"`{made.name}`",
        f"[{type(made).__name__}](../fedfast/algorithms/{module}.py)",
        ", ".join([*made.client_rows(), *made.client_values(_layout())]) or "–",
        ", ".join(server) or "–",
        str(made.gradients) if not made.pools else "1",
        f"{down} / {up}{code}",
        made.verified,
    )


def _layout() -> TrainedLayout:
    """A model of some layers stands in for the user's: values are asked for by its layout."""
    names = (*(f"encoder.{i}.weight" for i in range(6)), "head.weight", "head.bias")
    count = len(names)
    segments = Segments.of(range(count), [1] * count)
    shapes = ((1, 1),) * (count - 1) + ((1,),)
    return TrainedLayout(names, shapes, segments, count, (count - 2, count), torch.float32)


def _pages() -> Iterator[str]:
    """The docstring of each file."""
    modules = dict.fromkeys(page.__module__ for page in ALGORITHMS.values())
    for name in modules:
        text = inspect.getdoc(sys.modules[name]) or ""
        yield f"## {name.rsplit('.', 1)[1]}\n\n```text\n{text}\n```\n"


OWN = """\
## Adding your own

One file: the formula in the docstring, the components that differ from FedAvg's, nothing else. The
engine gathers and scatters the rows a component names, sums what it asks for, and hands everything
to the fused operations; an algorithm never loops over parameters or clients.
`examples/tutorials/own_algorithm.py` is a whole one, run by the tests;
`fedfast/algorithms/hooks.py` lists the hooks. Pass an object of the class to `Simulation`, or its
name: `my_package.module:Name`, in configs too. CONTRIBUTING.md adds one to fedfast.

A hook counts however it was given: in a subclass or mixin, on the class later, on one object. Order
in a round, for K clients at a time:

    client_rows gathered -> begin(at)
    per step    rate, ascend, radii or scales, objective, terms, correct, then after_step(at)
    then        the personal model is kept -> upload(at) -> mean -> finish(at) -> sums
    server      reweigh(models, start, cohort, ...) -> settle(server, cohort, numbers) -> added

- `upload(at)` may change `at.w` in place: compression, clipping, noise (`at.normal()`, keyed by
  seed, round and client). The mean, `sums` and `finish`, so the state that a drift derives from
  `at.w` too, see what it leaves; a personal model is the client's own from before. What is not
  finite makes the client diverge. A `rehearses` rule's first exchange is uploaded
  too, but keeps no client state.
- `after_step(at)` may change `at.w` in place. In `finish` the model is read only, `at.start` and
  `at.server` are so everywhere: a write raises ValueError.
- `reweigh` finds `cohort.train_loss` (mean over the local steps), `cohort.start_loss` (of the model
  sent, on all local samples; the class says `start_losses = True`) and `cohort.numbers` (what
  `finish` returned). `examples/fair_and_private.py`: q-FFL, top-k with error feedback,
  clip and noise.
- Rows have zeros between tensors: keep them zero (`at.layout.real`, `at.layout.parameters`). Norms
  of torch depend in their last bit on how many clients share a tensor; those of
  `fedfast.kernels` do not.
- A public method whose name is close to a hook's, or that is another component's hook, other
  arguments than the hook's, and other return types raise TypeError naming class and hook.
- `looks = False` says that `ascend` needs no gradient, which saves one per step. A `rate` of one's
  own beside SCAFFOLD, FedCM and the like needs `lr_total` too.
"""


if __name__ == "__main__":
    print(markdown(), end="")
