"""`Hessian`, the public class: eigenvalues, trace and spectral density of K models at once."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..._messages import format_value
from ...data.samples import as_samples
from ...layout import FlatLayout
from ...validation.values import Count, integer
from ..accuracy import Loss
from .density import Density, quadrature
from .eigenvalues import Eigenvalues, largest
from .product import HessianProduct, product_for
from .trace import Trace, hutch_plus_plus, hutchinson
from .vectors import Products

METHODS = {"hutchinson": hutchinson, "hutch++": hutch_plus_plus}


class Followed:
    """A product that calls `progress` each time it has been made."""

    def __init__(self, product: HessianProduct, progress: Callable[[], None]) -> None:
        self._product, self._progress = product, progress
        self.models, self.layout = product.models, product.layout
        self.trained, self.stride = product.trained, product.stride

    def __call__(self, v: Tensor) -> Tensor:
        """See `HessianProduct`."""
        found = self._product(v)
        self._progress()
        return found


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
    progress  called after every product with the K Hessians
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
        progress: Callable[[], None] | None = None,
    ) -> None:
        layout = FlatLayout.of(model) if layout is None else layout
        rows = layout.flatten(model)[None] if rows is None else rows
        given = data if isinstance(data, list) else [data] * len(rows)
        samples = [as_samples(own, "data") for own in given]
        integer("seed", seed)
        self.layout, self.seed = layout, seed
        product = product_for(model, layout, loss, rows, samples, batch=batch)
        self._products = Products(product if progress is None else Followed(product, progress))

    def eigenvalues(self, top: int = 1, *, tol: float = 1e-4, steps: int = 100) -> Eigenvalues:
        """The `top` largest eigenvalues (not magnitudes) of each, with vectors, by Lanczos.

        tol    a model is done once its bounds are below `tol` times its largest magnitude
        steps  at most in a Lanczos run, of one product each; every step keeps `[K, P]` float64.
               Of two and more eigenvalues, a further run looks for those that H has several times
        """
        _counts(top=top, steps=steps)
        if top > min(steps, self._products.parameters):
            most = min(steps, self._products.parameters)
            raise ValueError(f"top: expected at most {most}, steps or parameters; got {top}")
        positive("tol", tol)
        return largest(self._products, top, tol, steps, self.seed)

    def trace(self, samples: int = 30, *, method: str = "hutch++") -> Trace:
        """Unbiased estimates of the traces, with standard errors.

        samples  products, about; method: "hutchinson" or "hutch++"
        """
        _counts(samples=samples)
        if method not in METHODS:
            raise ValueError(f"method: expected {' or '.join(METHODS)}; got {format_value(method)}")
        return METHODS[method](self._products, samples, self.seed)

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
        return quadrature(self._products, samples, steps, points, width, self.seed)


def _counts(**given: int) -> None:
    for name, value in given.items():
        Count()(name, value)


def positive(name: str, value: float) -> None:
    """TypeError/ValueError unless `value` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number; got {format_value(value)}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: expected a finite number above 0; got {format_value(value)}")
