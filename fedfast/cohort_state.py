"""States that go in and out of a cohort: state dicts and rows, and what algorithms keep."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor, nn

from ._messages import format_value
from .clients import ClientState
from .layout import FlatLayout
from .state import ServerState


class StateRows:
    """State dicts of one module as rows [S]."""

    def __init__(self, layout: FlatLayout, module: nn.Module, device: torch.device) -> None:
        self.layout, self.module, self.device = layout, module, device
        self.expected = {n: v for n, v in module.state_dict().items() if isinstance(v, Tensor)}
        held = torch.zeros(layout.stride, dtype=torch.bool, device=device)
        for slot in layout.slots:
            held[slot.offset : slot.stop] = True
        self.padding = (~held).nonzero()[:, 0]

    def write(self, name: str, given: object, own: Tensor, into: Tensor) -> Tensor:
        """A state dict, or a row [S], written into the row `into` [S].

        own  the row whose buffers are taken where they belong to no state dict
        Raises TypeError/ValueError naming the tensor that is missing, unknown or of another shape.
        """
        if isinstance(given, Mapping):
            self._write_tensors(name, given, own, into)
        else:
            into.copy_(_vector(name, given, self.layout.stride))
            into[self.padding] = 0.0
        self.layout.settle(into)
        if not bool(into.dot(into).isfinite()) and not bool(into.isfinite().all()):
            raise ValueError(f"{name}: expected finite values; {self._wrong(into)} has others")
        return into

    def _write_tensors(
        self, name: str, given: Mapping[str, object], own: Tensor, into: Tensor
    ) -> None:
        tensors = self._named(name, given)
        into.copy_(own)
        views, aliases = self.layout.views(into), self.layout.aliases
        for key, value in tensors.items():
            held = aliases.get(key, key)
            if held in views:
                views[held].copy_(value)
            elif not _same(value, self.expected[key]):
                raise ValueError(
                    f"{name}: {key!r} is frozen and stays as the model had it; got other values"
                )

    def _named(self, name: str, given: Mapping[str, object]) -> dict[str, Tensor]:
        for key in given:
            if key not in self.expected:
                near = get_close_matches(str(key), self.expected, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{name}: the model has no tensor {format_value(key)}{hint}")
        found = {}
        for key, like in self.expected.items():
            if key not in given:
                raise ValueError(f"{name}: expected {key!r} {list(like.shape)}; it is missing")
            value = given[key]
            value = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            if not isinstance(value, Tensor) or value.shape != like.shape:
                came = list(value.shape) if isinstance(value, Tensor) else format_value(value)
                raise ValueError(f"{name}: expected {key!r} {list(like.shape)}; got {came}")
            found[key] = value.detach()
        return found

    def _wrong(self, row: Tensor) -> str:
        views = self.layout.views(row)
        return next(repr(n) for n, v in views.items() if not bool(v.isfinite().all()))

    def tensors(self, row: Tensor) -> dict[str, Tensor]:
        """The state dict of a row [S]: views, but copies of counters in their own dtype."""
        held, aliases = self.layout.tensors(row), self.layout.aliases
        return {n: held.get(aliases.get(n, n), v) for n, v in self.expected.items()}


def server_state(state: ServerState) -> dict[str, Tensor | float]:
    """Copies of what the server keeps beside the model, by name: tensors, and numbers."""
    tensors = {name: t.clone() for name, t in state.tensors().items() if name != "row"}
    return {**tensors, **state.scalars}


def load_server_state(state: ServerState, given: Mapping[str, object]) -> None:
    """Write what `server_state` gave into `state`."""
    tensors = {name: t for name, t in state.tensors().items() if name != "row"}
    _check_names("server_state", given, [*tensors, *state.scalars])
    checked = {n: _shaped(f"server_state[{n!r}]", given[n], t) for n, t in tensors.items()}
    numbers = {n: _number(f"server_state[{n!r}]", given[n]) for n in state.scalars}
    for name, t in tensors.items():
        t.copy_(checked[name])
    state.scalars = numbers


def client_state(clients: ClientState, client: int, given: Mapping[str, object]) -> ClientState:
    """The state in which `client` holds what is `given`; {}: it has not taken part."""
    like = clients.kinds()
    if given:
        _check_names("client_state", given, list(like))
    state = {n: _shaped(f"client_state[{n!r}]", v, like[n]) for n, v in given.items()}
    return clients.with_state(client, state)


def _check_names(what: str, given: object, expected: list[str]) -> None:
    if not isinstance(given, Mapping):
        raise TypeError(f"{what}: expected a dict of tensors; got {format_value(given)}")
    for name in given:
        if name not in expected:
            raise ValueError(f"{what}: expected {sorted(expected)}; got {format_value(name)}")
    for name in expected:
        if name not in given:
            raise ValueError(f"{what}: expected {sorted(expected)}; {name!r} is missing")


def _shaped(name: str, given: object, like: Tensor) -> Tensor:
    value = torch.from_numpy(given) if isinstance(given, np.ndarray) else given
    if not isinstance(value, Tensor) or value.shape != like.shape:
        came = list(value.shape) if isinstance(value, Tensor) else format_value(value)
        raise ValueError(f"{name}: expected a tensor {list(like.shape)}; got {came}")
    return value.detach().to(like)


def _number(name: str, given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{name}: expected a number; got {format_value(given)}")
    return float(given)


def _vector(name: str, given: object, stride: int) -> Tensor:
    if not isinstance(given, Tensor):
        raise TypeError(
            f"{name}: expected a state_dict or a row [{stride}]; got {format_value(given)}"
        )
    if given.shape != (stride,):
        raise ValueError(f"{name}: expected a row [{stride}]; got {list(given.shape)}")
    return given.detach()


def _same(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() or torch.equal(a.to(b), b)
