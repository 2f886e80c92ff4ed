"""`SAM`: two gradients per step, the second at the weights where the first one leads uphill."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT, StateDict

from .._messages import format_value
from ..kernels._scalars import flag, number
from .parts import Group, Part, is_large, is_plain_sgd

SPENT = "fedfast_spent"  # of a gradient: its version when a step was taken with it
Key: TypeAlias = tuple[int, torch.device, torch.dtype, int | None]


class SAM(Optimizer):
    """Sharpness-aware minimisation around any optimizer of torch.

        e = rho_i t^2 g / (|t g| + 1e-12)        g the gradient at w;  t = 1, or |w| if `adaptive`
        w <- base step with the gradient at w + e

    The norm is one over all parameters that have a gradient, `rho_i` that of their group.

    params          as for any optimizer; groups may have their own rho, adaptive, lr, ...
    base_optimizer  a class, `torch.optim.SGD`; all further keyword arguments are its own
    rho             radius, >= 0
    adaptive        element-wise scaled radius on all parameters (ASAM with eta = 0)

    Either `loss.backward(); first_step(zero_grad=True)`, then a second forward and backward pass
    and `second_step(zero_grad=True)`; or `step(closure)`. In between the model holds `w + e`.
    `base_optimizer` is an attribute; groups and state are one with its, so that `state_dict` has
    momentum and moments, and learning rate schedulers work. Parameters without a gradient stay.

    Raises TypeError or ValueError naming the argument; RuntimeError for steps out of turn and for
    sparse gradients.
    Source: Foret et al., "Sharpness-Aware Minimization", ICLR 2021, eq. 2.
    """

    keeps = False  # whether the first gradient is needed after the second

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.05,
        adaptive: bool = False,
        **kwargs: object,
    ) -> None:
        self._start(params, base_optimizer, {"rho": rho, "adaptive": adaptive}, kwargs)

    def _start(
        self,
        params: ParamsT,
        base_optimizer: Callable[..., Optimizer],
        own: dict[str, object],
        kwargs: dict[str, object],
    ) -> None:
        if isinstance(base_optimizer, Optimizer) or not callable(base_optimizer):
            made = isinstance(base_optimizer, Optimizer)
            kind = type(base_optimizer).__name__
            found = f"an instance of {kind}" if made else format_value(base_optimizer)
            raise TypeError(
                "base_optimizer: expected a class, as torch.optim.SGD, whose options are further "
                f"arguments here; got {found}"
            )
        for name in own.keys() & {"rho", "eta", "alpha"}:
            checked(name, own[name])
        flag("adaptive", own.get("adaptive", False))
        super().__init__(params, own | kwargs)
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        if both := own.keys() & self.base_optimizer.defaults.keys():
            name = type(self.base_optimizer).__name__
            raise ValueError(f"base_optimizer: {name} has an option {min(both)} of its own")
        self.defaults |= self.base_optimizer.defaults
        self._join()
        self._parts: dict[tuple[tuple[int, int], ...], list[Part]] = {}
        self._ahead: list[Part] = []

    def _join(self) -> None:
        """Groups and state of the base optimizer are this one's."""
        self.param_groups, self.state = self.base_optimizer.param_groups, self.base_optimizer.state

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """Move to `w + e`, by the gradients that the parameters hold."""
        if self._ahead:
            raise RuntimeError("first_step: the model is at w + e already; second_step comes next")
        parts = self._with_gradients()
        for part in parts:
            part.gather()
        etas = [self._eta(part.group) for part in parts]
        radii = [checked("rho", part.group["rho"]) for part in parts]
        shifts = [self._alpha(part.group) for part in parts]
        norm = None
        if len(parts) > 1:
            squares = [part.square(eta) for part, eta in zip(parts, etas, strict=True)]
            norm = torch.stack([square.to(squares[0].device) for square in squares]).sum().sqrt()
        self._ahead = parts
        for part, rho, eta, alpha in zip(parts, radii, etas, shifts, strict=True):
            part.ascend(rho, eta, alpha, norm)
        torch.clear_autocast_cache()  # weights at w, for passes under one autocast
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def restore(self) -> None:
        """Move back to w, to the bit; the gradients stay those at `w + e`.

        What `second_step` does first. For those who step the base optimizer themselves, as
        `GradScaler` does.
        """
        if not self._ahead:
            raise RuntimeError("second_step: expected a first_step before it")
        for part in self._ahead:
            part.restore()
            self._settle(part)
        self._ahead = []
        torch.clear_autocast_cache()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Move back to w, then take the base optimizer's step with the gradients at `w + e`."""
        parts = self._ahead
        self.restore()
        base, count = self.base_optimizer, sum(len(part.parameters) for part in parts)
        if count == sum(p.grad is not None for p in self._all()) and is_plain_sgd(base, parts):
            for part in parts:
                part.descend(self.state)
        else:
            base.step()
        for optimizer in (self, base):
            vars(optimizer)["_opt_called"] = True  # what schedulers look at, in place of `step`
        if zero_grad:
            self.zero_grad()

    def step(  # type: ignore[override]  # None has no step of its own
        self, closure: Callable[[], float] | None = None
    ) -> float:
        """Both steps. `closure` computes the loss, calls `backward` and returns the loss.

        Call it once yourself before, for the first gradient, as with the class that projects copy;
        where no parameter has a gradient, or none but those of the last such step, it is called
        here. Returns the loss at w if it was, else that at `w + e`. If the closure raises, the
        model is back at w.
        """
        if closure is None:
            raise TypeError(
                "closure: expected a function that computes the loss, calls backward() and returns "
                "the loss; got None (or call first_step and second_step)"
            )
        closure = torch.enable_grad()(closure)
        loss = None
        if all(map(_is_spent, self._gradients())):
            self.zero_grad()
            loss = closure()
        self.first_step(zero_grad=True)
        try:
            second = closure()
        except BaseException:
            self.restore()
            raise
        self.second_step()
        for g in self._gradients():
            vars(g)[SPENT] = g._version
        return second if loss is None else loss

    def _gradients(self) -> Iterator[Tensor]:
        return (p.grad for p in self._all() if p.grad is not None)

    def _all(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _with_gradients(self) -> list[Part]:
        """All parameters that have a gradient, in parts; kept while these stay where they are."""
        known = tuple((id(p), p.data_ptr()) for p in self._all() if p.grad is not None)
        if not known:
            raise RuntimeError("first_step: no parameter has a gradient; backward() comes before")
        if known not in self._parts:
            self._parts = {known: self._divided()}
        return self._parts[known]

    def _divided(self) -> list[Part]:
        parts: dict[Key, tuple[list[bool], list[Tensor]]] = {}
        for i, group in enumerate(self.param_groups):
            names = group.get("param_names") or [None] * len(group["params"])
            for name, p in zip(names, group["params"], strict=True):
                if p.grad is None:
                    continue
                if p.grad.layout is not torch.strided:
                    raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
                key = i, p.device, p.dtype, id(p) if is_large(p) else None
                flags, own = parts.setdefault(key, ([], []))
                flags.append(self._is_weight(name, p))
                own.append(p)
        groups = self.param_groups
        return [Part(groups[i], *part, self.keeps) for (i, *_), part in parts.items()]

    def _is_weight(self, name: str | None, p: Tensor) -> bool:
        """Whether an adaptive radius is scaled on this parameter."""
        return True

    def _eta(self, group: Group) -> float | None:
        """What joins |w| in t; None for t = 1."""
        return 0.0 if flag("adaptive", group.get("adaptive", False)) else None

    def _alpha(self, group: Group) -> float:
        """How much of the gradient itself is taken from e."""
        return 0.0

    def _settle(self, part: Part) -> None:
        """What becomes of the gradients at `w + e` once the model is back at w."""

    def load_state_dict(self, state_dict: StateDict) -> None:
        """What `state_dict` returned, the base optimizer's state included."""
        super().load_state_dict(state_dict)
        held = {"state": self.state, "param_groups": self.param_groups}
        self.base_optimizer.__setstate__(held)
        self._join()
        self._parts = {}

    def __getstate__(self) -> StateDict:
        base = {"base_optimizer": self.base_optimizer, "_parts": {}, "_ahead": []}
        return super().__getstate__() | base


def _is_spent(gradient: Tensor) -> bool:
    """Whether a step has been taken with it, and nothing was added to it since."""
    return vars(gradient).get(SPENT) == gradient._version


def checked(name: str, value: object) -> float:
    """A finite number >= 0, or TypeError or ValueError with its name."""
    found = number(name, value)
    if not (found >= 0.0 and math.isfinite(found)):
        raise ValueError(f"{name}: expected a finite number >= 0; got {found}")
    return found
