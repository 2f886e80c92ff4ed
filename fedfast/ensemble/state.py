"""State dicts of one model and of the whole ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from .._messages import format_value
from ..copies import copy_of
from ..layout import FlatLayout
from .rates import Rates

Kept = Mapping[str, Mapping[str, Tensor]]  # kind -> name -> [K, *shape]


def loaded(module: nn.Module, state: object) -> nn.Module:
    """A copy of the module with that state dict; ValueError naming `state` if it does not fit."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a state dict; got {format_value(state)}")
    made = copy_of(module)
    try:
        made.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"state: it is not one of this model: {error}") from error
    return made


def row_of(layout: FlatLayout, module: nn.Module, state: object) -> Tensor:
    """The row [S] of a state dict; what is constant must be as in the module all models share."""
    made = loaded(module, state)
    tensors, own = dict(module.state_dict()), made.state_dict()
    for name in layout.constants & tensors.keys():
        if not torch.equal(tensors[name], own[name]):
            raise ValueError(
                f"state: {name} is not trained and the same in all models, but another one there"
            )
    return layout.flatten(made, next(iter(own.values())).device)


def by_name(layout: FlatLayout, kept: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What an optimizer keeps, tensor by tensor: copies [K, *shape]."""
    return {
        kind: {name: t.clone() for name, t in layout.views(rows, trained_only=True).items()}
        for kind, rows in kept.items()
    }


def write_kept(layout: FlatLayout, kept: Mapping[str, Tensor], state: Kept) -> None:
    """The inverse of `by_name`; what is not in the state begins anew, with zeros."""
    for kind, rows in kept.items():
        rows.zero_()
        views = layout.views(rows, trained_only=True)
        for name, value in state.get(kind, {}).items():
            views[name].copy_(value)


def rates_state(rates: Rates) -> dict[str, Tensor]:
    """Copies of the numbers of all models."""
    return {name: getattr(rates, name).clone() for name in ("lr", "weight_decay", "rho")}


@dataclass(frozen=True)
class Whole:
    """The state of a whole ensemble."""

    models: Sequence[object]
    optimizer: Kept
    rates: Mapping[str, Tensor]
    steps: int

    @classmethod
    def of(cls, state: object, count: int, kinds: Sequence[str]) -> Whole:
        """That of K models, checked; TypeError/ValueError naming `state`.

        kinds  what their optimizer keeps
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a dict; got {format_value(state)}")
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in state]
        if missing:
            raise ValueError(
                f"state: expected that of a whole ensemble; it lacks {', '.join(missing)}. "
                "Give k= for the state dict of one model"
            )
        found = cls(*(state[name] for name in names))
        if len(found.models) != count:
            raise ValueError(f"state: expected {count} models; got {len(found.models)}")
        if found.optimizer and set(found.optimizer) != set(kinds):
            raise ValueError(
                f"state: expected what this optimizer keeps ({', '.join(kinds) or 'nothing'}); got "
                f"{', '.join(found.optimizer)}"
            )
        return found
