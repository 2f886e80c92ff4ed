"""`Hessian`, the public class: eigenvalues, trace and spectral density of K models at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..._messages import format_value
from ...data.samples import as_samples
from ...layout import FlatLayout
from ...validation.values import Count, integer
from ..accuracy import Loss
from .density import Density, quadrature
from .eigenvalues import Eigenvalues, largest
from .spaces import Problem
from .trace import Trace, hutch_plus_plus, hutchinson

Found = TypeVar("Found", Eigenvalues, Trace, Density)
METHODS = {"hutchinson": hutchinson, "hutch++": hutch_plus_plus}


class Hessian:
    """The Hessian of the mean loss of a model, or of each of K models of one architecture.

    hessian = Hessian(model, (x, y))
    hessian.eigenvalues(top=2).values       # [1, 2]

    model     nn.Module, in evaluation mode: dropout off, batch norm by running statistics
    data      samples or (x, y) that all models share; a list of them: one for each model
    rows      `[K, S]`, flat weights of K models; None: those that `model` has
    layout    of the rows, None: `FlatLayout.of(model)`
    loss      "cross_entropy", or (outputs, targets) -> scalar mean over the batch
    batch     samples whose part of a product is computed at once
    seed      of random vectors, the same for every model
    progress  called after every product with the Hessians of models that are solved side by side
    batch_statistics  None, or N: norms take the statistics of batches of N samples, in order, in
              place of running ones, and derivatives go through these
    A model's figures do not depend, by a bit, on the other models or on the number of threads.
    Raises ValueError/TypeError naming what is unfit.
    """

    def __init__(
        self,
        model: nn.Module,
        data: object,
        *,
        rows: Tensor | None = None,
        layout: FlatLayout | None = None,
        loss: Loss | str = "cross_entropy",
        batch: int = 500,
        seed: int = 0,
        progress: Callable[[], None] = lambda: None,
        batch_statistics: int | None = None,
    ) -> None:
        layout = FlatLayout.of(model) if layout is None else layout
        rows = layout.flatten(model)[None] if rows is None else rows
        given = data if isinstance(data, list) else [data] * len(rows)
        samples = [as_samples(own, "data") for own in given]
        integer("seed", seed)
        self.layout, self.seed = layout, seed
        how = batch, progress, batch_statistics
        self._problem = Problem(model, layout, loss, rows, samples, *how)
        self._spaces = self._problem.spaces()

    def eigenvalues(self, top: int = 1, *, tol: float = 1e-4, steps: int = 100) -> Eigenvalues:
        """The `top` largest eigenvalues (not magnitudes) of each, with vectors, by Lanczos.

        tol    a model is done once its bounds are below `tol` times its largest magnitude
        steps  at most in a Lanczos run, of one product each; every step keeps vectors of K models.
               Of two and more eigenvalues, a further run looks for those that H has several times
        """
        _counts(top=top, steps=steps)
        if top > min(steps, self.layout.parameters):
            most = min(steps, self.layout.parameters)
            raise ValueError(f"top: expected at most {most}, steps or parameters; got {top}")
        positive("tol", tol)
        found = []
        for space in self._spaces:
            if space.spare is not None and top > space.spare:  # zeros may be missing among them
                space = self._problem.whole(space.models)
            own = largest(space.products, top, tol, steps, self.seed)
            vectors = [space.lift(k, v) for k, v in enumerate(own.vectors)]
            found.append(replace(own, vectors=torch.stack(vectors)))
        return self._joined(found)

    def trace(self, samples: int = 30, *, method: str = "hutch++") -> Trace:
        """Unbiased estimates of the traces, with standard errors.

        samples  products, about; method: "hutchinson" or "hutch++"
        """
        _counts(samples=samples)
        if method not in METHODS:
            raise ValueError(f"method: expected {' or '.join(METHODS)}; got {format_value(method)}")
        solve = METHODS[method]
        return self._joined([solve(space.products, samples, self.seed) for space in self._spaces])

    def density(
        self, samples: int = 5, *, steps: int = 50, points: int = 1000, width: float = 0.01
    ) -> Density:
        """The density of each model's eigenvalues, on a grid of its own.

        samples  Lanczos runs of `steps` steps; points: G
        width    standard deviation of the smoothing, of the range of the eigenvalues found
        """
        _counts(samples=samples, steps=steps)
        Count(ge=2)("points", points)
        positive("width", width)
        how = samples, steps, points, width, self.seed
        return self._joined([quadrature(s.products, *how, s.outside) for s in self._spaces])

    def _joined(self, found: list[Found]) -> Found:
        """What was found in each space, in the order of the models."""
        if len(found) == 1:
            return found[0]
        order = torch.tensor([k for space in self._spaces for k in space.models]).argsort()
        parts = [[getattr(own, f.name) for own in found] for f in fields(found[0])]
        return type(found[0])(*(torch.cat(part)[order] for part in parts))


def _counts(**given: int) -> None:
    for name, value in given.items():
        Count()(name, value)


def positive(name: str, value: float) -> None:
    """TypeError/ValueError unless `value` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number; got {format_value(value)}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: expected a finite number above 0; got {format_value(value)}")
