"""A simulation between two rounds, as a file: what is needed to go on as if it never stopped.

    {"format", "run", "history", "stopped", "server", "scalars", "clients", "tuned"}

Everything random is a function of (seed, round, client), so that there is no generator to keep.
The container is torch's, read without executing anything (`weights_only`).
"""

from __future__ import annotations

import pickle
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .algorithms import Algorithm
from .history import History, Row
from .runs import atomic

if TYPE_CHECKING:
    from .simulation import Simulation

FORMAT = 1


def save(sim: Simulation, path: str | Path) -> None:
    """Writes the state of `sim`; an older file at `path` stays whole until the new one is."""
    engine, personal = sim._engine, sim._personal
    state = {
        "format": FORMAT,
        "run": _identity(sim),
        "history": [astuple(row) for row in sim.history],
        "stopped": sim.stopped,
        "server": {name: t.cpu() for name, t in engine.state.tensors().items()},
        "scalars": engine.state.scalars,
        "clients": engine.clients.state_dict(),
        "tuned": None if personal.tuned is None else personal.tuned.cpu(),
        "slot": torch.from_numpy(personal.slot),
    }
    atomic(Path(path), lambda to: torch.save(state, to))


def load(sim: Simulation, path: str | Path) -> None:
    """Puts `sim`, made with the same arguments, where `save` left the other one.

    Raises ValueError naming the file where it is no such file, or of another run. More rounds,
    another chunk, device, backend or number of threads are no other run.
    """
    found = _read(Path(path))
    for name, expected in _identity(sim).items():
        if found["run"].get(name) != expected:
            was = found["run"].get(name)
            raise ValueError(f"{path}: expected a state of {name} {expected}, found {was}")
    engine, personal = sim._engine, sim._personal
    for name, t in engine.state.tensors().items():
        t.copy_(found["server"][name])
    engine.state.scalars = dict(found["scalars"])
    engine.clients.load_state_dict(found["clients"])
    if found["tuned"] is not None:
        personal.tuned = found["tuned"].to(sim.device)
    personal.slot = found["slot"].numpy()
    sim.history = History(Row(*cells) for cells in found["history"])
    sim.stopped = found["stopped"]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a saved simulation, found no file")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: not a saved simulation: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        got = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{path}: expected a saved simulation of format {FORMAT}, found {got}")
    return found


def _identity(sim: Simulation) -> dict[str, str]:
    """What must be the same for a run to be continued."""
    data = sim._engine.data
    return {
        "algorithm": _told(sim.algorithm),
        "seed": str(sim._engine.local.seed),
        "weights": str(sim.layout.parameters),
        "dtype": str(sim.dtype),
        "clients": f"{data.num_clients} with {int(data.sizes.sum())} samples",
    }


def _told(algorithm: Algorithm) -> str:
    """What it is; kept models are told only where there are any, as in states that knew of none."""
    return repr(algorithm).replace(", keep_models=False", "").replace(", v0=None", "")
