"""Inputs for every operation, and how large an error its rounding may make.

A case is built from a seed, so that each run gets fresh, equal buffers. `magnitude` is what the
rounding of a result is proportional to: the sum of its terms' absolute values, [K, S] float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from fedfast.kernels import Segments, Server
from fedfast.kernels.reference.common import norm_of
from fedfast.kernels.reference.sensitivity import unit_range
from torch import Tensor

from fedfast import kernels

Inputs = dict[str, Any]
RULES = ("average", "momentum", "adam", "yogi", "adagrad")


@dataclass(frozen=True)
class Case:
    """operation, a builder of its keyword arguments, those it writes, and its magnitudes.

    rounding   the dtype whose precision results have, where it is not their own
    of_client  what a written value says of each client alone, [K, ...]
    """

    operation: str
    build: Callable[[], Inputs]
    written: tuple[str, ...]
    magnitude: Callable[[Inputs], dict[str, Tensor]]
    rounding: torch.dtype | None = None
    of_client: Callable[[Tensor], Tensor] = lambda value: value

    def run(
        self, backend: str, change: Callable[[Inputs], Inputs] = lambda inputs: inputs
    ) -> dict[str, Tensor]:
        """What the operation wrote and returned, by name."""
        inputs = change(self.build())
        returned = getattr(kernels, self.operation)(**inputs, backend=backend)
        return {n: inputs[n] for n in self.written if n in inputs} | {"returned": returned}


def widen(value: Any) -> Any:
    """Every floating tensor inside `value` in float64."""
    if isinstance(value, Tensor):
        return value.double() if value.dtype.is_floating_point else value
    if isinstance(value, dict):
        return {name: widen(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(widen(item) for item in value)
    return value


def one_of(value: Any, k: int, clients: int) -> Any:
    """Client k's part of every bank [K, ...] and vector [K] inside `value`, copied."""
    if isinstance(value, Tensor):
        return value[k : k + 1].clone() if value.shape[0] == clients else value
    if isinstance(value, dict):
        return {name: one_of(item, k, clients) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(one_of(item, k, clients) for item in value)
    return value


class Draw:
    """Seeded random operands of one problem."""

    def __init__(self, seed: int, clients: int, size: int, dtype: torch.dtype) -> None:
        self.clients, self.size, self.dtype = clients, size, dtype
        self.random = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, dtype=torch.float64).to(self.dtype)

    def operand(self, kind: str) -> Tensor:
        """A "bank" [K, S], a "strided" one whose rows are not aligned, or a "shared" row [S]."""
        if kind == "shared":
            return self.normal(self.size)
        if kind == "strided":
            return self.normal(self.clients, self.size + 5)[:, 3 : 3 + self.size]
        return self.normal(self.clients, self.size)

    def vector(self) -> Tensor:
        """[K], between 0.1 and 1."""
        drawn = torch.rand(self.clients, generator=self.random, dtype=torch.float64)
        return (0.1 + 0.9 * drawn).to(self.dtype)

    def poison(self) -> Tensor:
        return torch.full((self.clients, self.size), float("nan"), dtype=self.dtype)

    def terms(self, kinds: tuple[str, ...]) -> list[tuple[Tensor, Any]]:
        """One term per kind; the second has the coefficient -0.5, the others one per client."""
        return [
            (self.operand(kind), -0.5 if j == 1 else self.vector()) for j, kind in enumerate(kinds)
        ]


def segments_of(size: int) -> Segments:
    """Weights and others, an empty one, padding between and behind; a single one in a tiny row."""
    if size < 16:
        return Segments.whole(size)
    a, b = size // 3, size // 2
    return Segments.of(
        [0, a + 2, b, b + 1], [a, b - a - 2, 0, size - b - 3], [True, False, True, True]
    )


def column(coefficient: Any) -> Any:
    return coefficient[:, None].abs() if isinstance(coefficient, Tensor) else abs(coefficient)


def size_of_terms(terms: list[tuple[Tensor, Any]]) -> Tensor:
    return sum(column(c) * d.abs() for d, c in terms)


def plain_sum(terms: list[tuple[Tensor, Any]]) -> Tensor:
    return sum((c[:, None] if isinstance(c, Tensor) else c) * d for d, c in terms)


def length(x: Tensor) -> Tensor:
    return norm_of(x)[:, None]


def perturb(
    seed: int,
    clients: int,
    size: int,
    dtype: torch.dtype,
    terms: tuple[str, ...] = ("bank",),
    w: str = "bank",
    radius: str = "number",
    layered: bool = False,
    adaptive: float | None = None,
    alpha: bool = False,
    norm: bool = False,
) -> Case:
    """radius "number", "client" or "layer"; `layered` gives segments without per-layer radii."""

    def build() -> Inputs:
        draw = Draw(seed, clients, size, dtype)
        table = segments_of(size)
        radii = {
            "number": lambda: 0.5,
            "client": draw.vector,
            "layer": lambda: draw.normal(clients, table.count),
        }
        inputs = {
            "w": draw.operand(w),
            "terms": draw.terms(terms),
            "rho": radii[radius](),
            "out": draw.poison(),
            "adaptive": adaptive,
        }
        inputs["segments"] = table if layered or radius == "layer" else None
        inputs["alpha"] = draw.vector() if alpha else 0.0
        inputs["norm"] = draw.vector() if norm else None
        return inputs

    def magnitude(x: Inputs) -> dict[str, Tensor]:
        t = 1.0 if adaptive is None else torch.maximum(x["w"].abs() + adaptive, torch.ones(1))
        terms_size, a = size_of_terms(x["terms"]), plain_sum(x["terms"]).expand(clients, size)
        known = length(a if adaptive is None else (x["w"].abs() + adaptive).clamp(max=1.0) * a)
        cancelled = length((t * terms_size).expand(clients, size)) / known
        over = x["norm"][:, None] if norm else known
        rho = x["rho"].abs().max() if isinstance(x["rho"], Tensor) else x["rho"]
        moved = (
            (rho / over * (1.0 if norm else cancelled) + column(x["alpha"])) * t * t * terms_size
        )
        return {"out": (x["w"].abs() + moved).expand(clients, size)}

    return Case("perturb", build, ("out",), magnitude)


def step(
    seed: int,
    clients: int,
    size: int,
    dtype: torch.dtype,
    terms: tuple[str, ...] = ("bank",),
    w: str = "bank",
    w_ref: str | None = None,
    decay: bool = False,
    clip: float | None = None,
    momentum: bool = False,
    nesterov: bool = False,
) -> Case:
    """clip: the largest norm as a multiple of sqrt(S), below 1 it bites."""

    def build() -> Inputs:
        draw = Draw(seed, clients, size, dtype)
        inputs = {
            "w": draw.operand(w),
            "terms": draw.terms(terms),
            "eta": draw.vector(),
            "out": draw.poison(),
        }
        inputs |= {"w_ref": None if w_ref is None else draw.operand(w_ref), "lam": draw.vector()}
        inputs |= {"weight_decay": draw.vector() if decay else 0.0, "nesterov": nesterov}
        inputs["clip_norm"] = None if clip is None else draw.vector() * clip * size**0.5
        inputs["momentum"] = draw.vector() if momentum else 0.0
        inputs["m"] = draw.operand("strided") if momentum else None
        return inputs

    def magnitude(x: Inputs) -> dict[str, Tensor]:
        weights = x["w"].abs().expand(clients, size)
        d, total = size_of_terms(x["terms"]), plain_sum(x["terms"])
        if w_ref is not None:
            d = d + column(x["lam"]) * (weights + x["w_ref"].abs())
            total = total + x["lam"][:, None] * (x["w"] - x["w_ref"])
        if clip is not None:
            norm = length(total.expand(clients, size))
            shrink = (x["clip_norm"][:, None] / norm).clamp(max=1.0)
            d = shrink * d * length(d.expand(clients, size)) / norm
        v = d + column(x["weight_decay"]) * weights
        m = column(x["momentum"]) * x["m"].abs() + v if momentum else v
        moved = column(x["eta"]) * (m + column(x["momentum"]) * m)
        return {"out": weights + moved, "m": m.expand(clients, size)}

    return Case("step", build, ("out", "m") if momentum else ("out",), magnitude)


def stats(
    seed: int,
    clients: int,
    size: int,
    dtype: torch.dtype,
    x: str = "bank",
    y: str | None = None,
    x_ref: str | None = None,
    y_ref: str | None = None,
    layered: bool = False,
) -> Case:
    """Sums over the segments of `segments_of`, or over the whole row."""

    def build() -> Inputs:
        draw = Draw(seed, clients, size, dtype)
        kinds = {"x": x, "y": y, "x_ref": x_ref, "y_ref": y_ref}
        inputs = {
            name: None if kind is None else draw.operand(kind) for name, kind in kinds.items()
        }
        table = segments_of(size) if layered else None
        shared = all(kind in (None, "shared") for kind in kinds.values())
        shape = (1 if shared else clients, table.count if table else 1, 5)
        out = torch.full(shape, float("nan"), dtype=torch.float64)
        return inputs | {"segments": table, "out": out}

    def magnitude(inputs: Inputs) -> dict[str, Tensor]:
        sums = reference_result("stats", inputs)
        sums[..., 1] = sums[..., 3]
        return {"out": sums}

    return Case("stats", build, ("out",), magnitude)


def reference_result(operation: str, inputs: Inputs) -> Tensor:
    return getattr(kernels, operation)(**inputs | {"out": None}, backend="reference")


def aggregate(
    seed: int,
    clients: int,
    size: int,
    dtype: torch.dtype,
    rows: str = "bank",
    base: str = "shared",
    rule: str | None = "average",
    first: bool = True,
) -> Case:
    """Moments are drawn away from zero, where the division of the adaptive rules is well posed."""

    def build() -> Inputs:
        draw = Draw(seed, clients, size, dtype)
        acc = torch.full((size,), float("nan"), dtype=torch.float64)
        inputs = {
            "client_rows": draw.operand(rows),
            "weights": draw.vector(),
            "base": draw.operand(base),
        }
        inputs |= {
            "acc": acc if first else torch.randn(size, generator=draw.random, dtype=torch.float64)
        }
        inputs |= {"first": first, "server": None if rule is None else Server(rule, lr=0.5)}
        if rule is not None:
            inputs |= {"w": draw.normal(size), "out": draw.poison()[0]}
            inputs |= {"m": draw.normal(size), "v": draw.normal(size).abs() + 0.5}
        return inputs

    def magnitude(x: Inputs) -> dict[str, Tensor]:
        gap = x["client_rows"].abs() + x["base"].abs()
        acc = (0 if first else x["acc"].abs()) + (column(x["weights"]) * gap).sum(0)
        sizes = {"acc": acc[None]}
        if rule is not None:
            sizes |= {"m": (x["m"].abs() + acc)[None], "v": (x["v"] + acc * acc)[None]}
            sizes["out"] = (x["w"].abs() + x["m"].abs() + acc)[None]
            if rule in ("adam", "yogi", "adagrad"):
                root = x["v"].sqrt() * 0.9
                sizes["out"] = (x["w"].abs() + (x["m"].abs() + acc) * (1 + acc / root) / root)[None]
        return sizes

    kept = {None: (), "average": ("out",), "momentum": ("out", "m")}.get(rule, ("out", "m", "v"))
    return Case("aggregate", build, ("acc", *kept), magnitude)


def mix(
    seed: int, clients: int, size: int, dtype: torch.dtype, x: str = "bank", y: str = "bank"
) -> Case:
    """a is one number per client, b a number."""

    def build() -> Inputs:
        draw = Draw(seed, clients, size, dtype)
        return {
            "x": draw.operand(x),
            "y": draw.operand(y),
            "a": draw.vector(),
            "b": -0.5,
            "out": draw.poison(),
        }

    def magnitude(inputs: Inputs) -> dict[str, Tensor]:
        return {"out": column(inputs["a"]) * inputs["x"].abs() + 0.5 * inputs["y"].abs()}

    return Case("mix", build, ("out",), magnitude)


def gram(
    seed: int,
    clients: int,
    size: int,
    dtype: torch.dtype,
    rows: str = "bank",
    base: str | None = None,
    layered: bool = False,
) -> Case:
    """A client alone says its squared norm: the diagonal."""

    def build() -> Inputs:
        draw = Draw(seed, clients, size, dtype)
        table = segments_of(size) if layered else None
        start = None if base is None else draw.operand(base)
        return {"rows": draw.operand(rows), "base": start, "segments": table}

    def magnitude(inputs: Inputs) -> dict[str, Tensor]:
        products = reference_result("gram", inputs)
        norms = products.diagonal(dim1=-2, dim2=-1).sqrt()
        return {"returned": norms[..., :, None, None] * norms[..., None, :, None]}

    def squares(value: Tensor) -> Tensor:
        return value.diagonal(dim1=-2, dim2=-1).movedim(-1, 0)

    return Case("gram", build, ("returned",), magnitude, dtype, squares)


def sensitivity(
    seed: int,
    clients: int,
    size: int,
    dtype: torch.dtype,
    x: str = "bank",
    y: str = "shared",
    normalize: bool = True,
) -> Case:
    """Over the segments of `segments_of`; empty ones have no mean, and one element no extent."""

    def build() -> Inputs:
        draw = Draw(seed, clients, size, dtype)
        table = segments_of(size)
        operands = {"x": draw.operand(x), "y": draw.operand(y)}
        count = 1 if x == y == "shared" else clients
        out = torch.full((count, table.count), float("nan"), dtype=torch.float64)
        return operands | {"segments": table, "normalize": normalize, "out": out}

    def magnitude(inputs: Inputs) -> dict[str, Tensor]:
        n = unit_range if normalize else torch.abs
        x, y = (v.expand(inputs["out"].shape[0], -1) for v in (inputs["x"], inputs["y"]))
        sizes = [(n(x[:, a:b]) + n(y[:, a:b])).square() for a, b in inputs["segments"].spans]
        return {"out": torch.stack([size.mean(dim=1) for size in sizes], dim=1)[..., None]}

    return Case("sensitivity", build, ("out",), magnitude)


FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "perturb": {
        "sam": {},
        "strided": {"terms": ("strided",), "w": "strided", "radius": "client"},
        "shared-w": {"w": "shared", "layered": True},
        "two-terms": {"terms": ("bank", "shared")},
        "three-terms": {"terms": ("bank", "shared", "strided"), "alpha": True},
        "four-terms": {"terms": ("bank", "bank", "shared", "strided"), "norm": True},
        "layers": {"radius": "layer"},
        "layers-sagm": {"radius": "layer", "alpha": True, "norm": True},
        "asam": {"adaptive": 0.0625},
        "asam-layers": {"adaptive": 0.0625, "radius": "layer", "terms": ("strided", "shared")},
        "asam-weights-only": {"adaptive": 0.5, "layered": True, "w": "shared"},
    },
    "step": {
        "sgd": {},
        "strided": {"terms": ("strided",), "w": "strided", "decay": True},
        "shared-w": {"w": "shared"},
        "scaffold": {"terms": ("bank", "shared", "bank"), "decay": True},
        "feddyn": {"terms": ("bank", "bank"), "w_ref": "shared", "decay": True},
        "four-terms": {"terms": ("bank", "shared", "strided", "bank"), "w_ref": "bank"},
        "clip-bites": {"clip": 0.5, "decay": True},
        "clip-idle": {"clip": 50.0, "terms": ("bank", "shared")},
        "clip-prox": {"clip": 0.5, "w_ref": "strided", "terms": ("strided", "bank")},
        "momentum": {"momentum": True},
        "nesterov": {"momentum": True, "nesterov": True, "decay": True},
        "everything": {
            "terms": ("bank",) * 4,
            "w_ref": "bank",
            "decay": True,
            "clip": 0.5,
            "momentum": True,
            "nesterov": True,
        },
    },
    "stats": {
        "norms": {},
        "updates": {"x_ref": "shared"},
        "pairs": {"y": "bank", "layered": True},
        "strided": {"x": "strided", "y": "strided", "x_ref": "bank", "layered": True},
        "shared": {"y": "shared", "y_ref": "strided"},
        "both-refs": {"y": "bank", "x_ref": "shared", "y_ref": "shared", "layered": True},
    },
    "aggregate": {
        "sum": {"rule": None},
        "sum-on": {"rule": None, "first": False, "base": "bank", "rows": "strided"},
        "average": {},
        "average-own-base": {"base": "strided"},
        "momentum": {"rule": "momentum", "first": False},
        "adam": {"rule": "adam"},
        "yogi": {"rule": "yogi", "rows": "strided"},
        "adagrad": {"rule": "adagrad", "first": False},
    },
    "mix": {
        "banks": {},
        "strided": {"x": "strided", "y": "strided"},
        "shared": {"x": "shared", "y": "bank"},
    },
    "gram": {
        "rows": {},
        "updates": {"base": "shared"},
        "layers": {"rows": "strided", "base": "bank", "layered": True},
    },
    "sensitivity": {
        "plain": {"normalize": False},
        "normalized": {},
        "banks": {"x": "strided", "y": "bank"},
        "shared-x": {"x": "shared", "y": "strided", "normalize": False},
    },
}

BUILDERS: dict[str, Callable[..., Case]] = {
    "perturb": perturb,
    "step": step,
    "stats": stats,
    "aggregate": aggregate,
    "mix": mix,
    "gram": gram,
    "sensitivity": sensitivity,
}


def case(operation: str, form: str, clients: int, size: int, dtype: torch.dtype) -> Case:
    """The named form of an operation; equal arguments give equal inputs."""
    return BUILDERS[operation](7, clients, size, dtype, **FORMS[operation][form])
