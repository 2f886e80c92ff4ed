"""State dicts of one model and of the whole ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from .._messages import format_value
from ..copies import copy_of
from ..layout import FlatLayout
from ..random import check_seed
from ..validation.values import Count, integer
from .rates import NAMES, Rates, per_model

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
    """The inverse of `by_name`; an empty state begins anew, with zeros."""
    for kind, rows in kept.items():
        rows.zero_()
        views = layout.views(rows, trained_only=True)
        for name, value in state.get(kind, {}).items():
            views[name].copy_(value)


def rates_state(rates: Rates) -> dict[str, Tensor]:
    """Copies of the numbers of all models."""
    return {name: getattr(rates, name).clone() for name in NAMES}


@dataclass(frozen=True)
class Whole:
    """The state of a whole ensemble."""

    models: Sequence[object]
    optimizer: Kept
    rates: Mapping[str, Tensor]
    steps: int
    seed: int

    @classmethod
    def of(cls, state: object, module: nn.Module, count: int, kinds: Sequence[str]) -> Whole:
        """That of K models like `module`, checked; TypeError/ValueError naming `state`.

        kinds  what their optimizer keeps
        """
        names = [field.name for field in fields(cls)]
        given = _mapping("state", state)
        missing = [name for name in names if name not in given]
        if missing:
            raise ValueError(
                f"state: expected that of a whole ensemble; it lacks {', '.join(missing)}. "
                "Give k= for the state dict of one model"
            )
        models, optimizer, rates, steps, seed = (given[name] for name in names)
        if not isinstance(models, list | tuple) or len(models) != count:
            came = len(models) if isinstance(models, list | tuple) else format_value(models)
            raise ValueError(f"state: expected {count} models; got {came}")
        t, own = _steps(steps), _mapping("state['optimizer']", optimizer)
        kept = _kept(own, module, count, kinds, t)
        return cls(models, kept, _rates(_mapping("state['rates']", rates), count), t, _seed(seed))


def _mapping(name: str, given: object) -> Mapping[str, object]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{name}: expected a dict; got {format_value(given)}")
    return given


def _steps(given: object) -> int:
    Count(ge=0)("state['steps']", given)  # type: ignore[arg-type]  # which it is there to find out
    return int(given)  # type: ignore[call-overload]


def _seed(given: object) -> int:
    integer("state['seed']", given)
    return check_seed(int(given))  # type: ignore[call-overload]


def _rates(given: Mapping[str, object], count: int) -> dict[str, Tensor]:
    _check_names("state['rates']", given, NAMES)
    return {n: per_model(f"state['rates'][{n!r}]", v, count) for n, v in given.items()}


def _kept(
    given: Mapping[str, object], module: nn.Module, count: int, kinds: Sequence[str], steps: int
) -> Kept:
    """What an optimizer keeps; {} is that of an ensemble that has taken no step."""
    if not given and not steps:
        return {}
    _check_names("state['optimizer']", given, kinds)
    shapes = {n: [count, *p.shape] for n, p in module.named_parameters() if p.requires_grad}
    return {k: _tensors(f"state['optimizer'][{k!r}]", given[k], shapes) for k in kinds}


def _tensors(where: str, given: object, shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    tensors, found = _mapping(where, given), {}
    _check_names(where, tensors, list(shapes))
    for name, t in tensors.items():
        if not isinstance(t, Tensor) or list(t.shape) != shapes[name]:
            came = list(t.shape) if isinstance(t, Tensor) else format_value(t)
            raise ValueError(f"{where}: expected {name!r} {shapes[name]}; got {came}")
        found[name] = t
    return found


def _check_names(where: str, given: Mapping[str, object], expected: Sequence[str]) -> None:
    if given.keys() != set(expected):
        raise ValueError(
            f"{where}: expected {', '.join(expected) or 'nothing'}; "
            f"got {', '.join(map(str, given)) or 'nothing'}"
        )
