"""Landscapes of finished runs: which slices of which models, on which samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..data import Samples
from ..layout import FlatLayout
from ..runs.few_samples import few
from ..runs.run_models import RunModels
from ..validation.values import Count
from .directions import line_between, plane_through, random_plane
from .losses import ModelLosses
from .panels import RANDOM, Panel
from .slices import Slice
from .surface import check_grid, surface

GLOBAL = "global"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    clients   whose local models' surroundings are shown too, on their own samples and on all
    plane     names of two models (a line) or three (a plane): "global" or a client's number
    grid, reach, dimensions  of slices, see `surface`
    samples   at most, drawn without replacement
    """

    clients: tuple[int, ...] = ()
    plane: tuple[str, ...] = ()
    grid: int = 51
    reach: float = 1.0
    samples: int = 1000
    seed: int = 0
    dimensions: int = 2

    def __post_init__(self) -> None:
        if self.plane and len(self.plane) not in (2, 3):
            raise ValueError(f"plane: expected two or three models; got {','.join(self.plane)}")
        for name in self.plane:
            if name != GLOBAL and not name.isdecimal():
                raise ValueError(f"plane: expected 'global' or numbers of clients; got {name!r}")
        if self.plane.count(GLOBAL) > 1:
            raise ValueError(f"plane: expected different models; got {','.join(self.plane)}")
        if self.plane and self.clients:
            raise ValueError("plane: expected no clients beside it; it names its models itself")
        Count()("samples", self.samples)
        Count(ge=0)("seed", self.seed)
        check_grid(self.grid, self.reach)

    @property
    def slice(self) -> str:
        """The line or plane, as `Panel.slice` names it."""
        if self.plane:
            return f"{'plane' if len(self.plane) == 3 else 'line'} {','.join(self.plane)}"
        kind = RANDOM if self.dimensions == 2 else "random line"
        return f"{kind}, seed {self.seed}" if self.seed else kind


def panels(run: RunModels, wanted: Wanted, progress: Progress = lambda *_: None) -> Iterator[Panel]:
    """The panels of one label, one after the other.

    Directions are drawn for the global model and normalised by the model that they start from;
    all labels have the same ones, so that their landscapes can be compared.
    """
    drawn = few(_test(run), wanted.samples, wanted.seed)
    if wanted.plane:
        model, through = ", ".join(wanted.plane), _through(run, wanted.plane)
        yield _panel(run, through, drawn, wanted, progress, model, "test set")
        return
    local = run.local_rows(wanted.clients)  # first: clients that do not exist are told at once
    around = _around(run, "global model", run.global_row(), wanted)
    if wanted.clients:  # beside their own samples, those of all of them
        trained = few(run.data.samples, wanted.samples, wanted.seed)
        yield _panel(run, around, trained, wanted, progress, "global model", "train samples")
    yield _panel(run, around, drawn, wanted, progress, "global model", "test set")
    for i, row in zip(wanted.clients, local, strict=True):
        own, model = few(run.data.client(i), wanted.samples, wanted.seed), f"client {i}"
        around = _around(run, model, row, wanted)
        yield _panel(run, around, own, wanted, progress, model, "own samples")
        yield _panel(run, around, drawn, wanted, progress, model, "test set")


def _test(run: RunModels) -> Samples:
    """The test set; what all clients have where there is none."""
    return run.data.samples if run.test is None else run.test


def _around(run: RunModels, model: str, row: Tensor, wanted: Wanted) -> Slice:
    return random_plane(run.layout, row, wanted.dimensions, wanted.seed, {model: row})


def _through(run: RunModels, names: Sequence[str]) -> Slice:
    numbers = [int(name) for name in names if name != GLOBAL]
    local = dict(zip(numbers, run.local_rows(numbers), strict=True))
    models = {
        name if name == GLOBAL else f"client {name}": (
            run.global_row() if name == GLOBAL else local[int(name)]
        )
        for name in names
    }
    through: Callable[[FlatLayout, dict[str, Tensor]], Slice]
    through = line_between if len(models) == 2 else plane_through
    return through(run.layout, models)


def _panel(
    run: RunModels,
    of: Slice,
    samples: Samples,
    wanted: Wanted,
    progress: Progress,
    model: str,
    data: str,
) -> Panel:
    design = run.simulation._components.design
    losses = ModelLosses(
        run.module,
        run.layout,
        samples,
        loss=design.loss,
        metric=design.metric,
        threads=design.threads,
        backend=design.options.backend,
    )
    found = surface(of, losses, wanted.grid, wanted.reach, progress)
    return Panel.of(found, run.label, wanted.slice, model, data)
