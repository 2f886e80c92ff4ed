"""`checkpoint/LABEL.pt`: a label's global model beside its state, for torch; read where the state
is gone, as of rows of `fedfast reproduce`."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..algorithms._hook_checks import overrides
from ..algorithms.servers import ServerRule
from ..copies import copy_of
from ..files import atomic
from ..history import Rows
from .reading import read

if TYPE_CHECKING:
    from ..layout import FlatLayout
    from ..simulation import Simulation


def path_in(folder: Path, label: str) -> Path:
    """Where the label's global model is kept."""
    return folder / "checkpoint" / f"{label}.pt"


def write(folder: Path, label: str, sim: Simulation) -> None:
    """Keeps the global model of `sim` as `{"round", "model"}`. Raises OSError."""
    model = {name: tensor.cpu() for name, tensor in sim.state_dict().items()}
    content = io.BytesIO()
    torch.save({"round": sim.round, "model": model}, content)
    atomic(path_in(folder, label), lambda to: to.write_bytes(content.getbuffer()))


def load(folder: Path, label: str, sim: Simulation) -> None:
    """Puts a new simulation after the label's last round: history, its scalars, the model kept.

    Whatever else the state held is what it is before round 1; `lost` names it.
    Raises ValueError naming the file where it is damaged, or of another round or model.
    """
    path, (history, about) = path_in(folder, label), read(folder, label)
    done, model = _read(path)
    if done != len(history):
        raise ValueError(f"{path}: expected the model after round {len(history)}; got round {done}")
    parts = sim._components
    module = copy_of(parts.design.module)
    try:
        module.load_state_dict(model)
    except RuntimeError as error:
        why = " ".join(str(error).split())  # torch's has several lines
        raise ValueError(f"{path}: expected a model of the run's config; {why}") from error
    _check_whole(path, sim.layout, model)
    server = parts.engine.next
    server.follow(parts.engine.state)
    server.row.copy_(sim.layout.flatten(module))
    server.scalars = {name: history.scalar(name)[-1] for name in server.scalars}
    made = replace(parts.engine.committed, server=server, rows=Rows(history), stopped=about.stopped)
    parts.engine.committed = made


def lost(sim: Simulation) -> tuple[str, ...]:
    """What clients' training reads beside the global model, which `load` cannot bring back."""
    engine = sim._components.engine
    server, algorithm = engine.state, engine.algorithm
    gone = {*server.rows, *server.values, *(n for n, v in server.scalars.items() if math.isnan(v))}
    # A rule's momentum stays with it unless it is sent; what others' components read is not known.
    sends = algorithm.traffic()[0] > 1 or overrides(algorithm.server, "send", ServerRule)
    if server.m is not None and (sends or engine.hooks.foreign):
        gone.add("momentum")
    clients = sorted(engine.clients.kinds())
    return *(f"the server's {name}" for name in sorted(gone)), *(f"clients' {n}" for n in clients)


def _read(path: Path) -> tuple[int, Mapping[str, Tensor]]:
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        return int(kept["round"]), dict(kept["model"])
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as e:
        raise ValueError(f"{path}: expected {{round, model}} as runs keep them; {e}") from e


def _check_whole(path: Path, layout: FlatLayout, model: Mapping[str, Tensor]) -> None:
    """Buffers that training moves need not be in a `state_dict`."""
    there = {layout.aliases.get(name, name) for name in model}
    if missing := [slot.name for slot in layout.slots if slot.name not in there]:
        raise ValueError(f"{path}: expected all that training moves; it lacks {', '.join(missing)}")
