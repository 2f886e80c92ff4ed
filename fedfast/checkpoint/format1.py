"""States of format 1, which `torch.save` wrote: read, never written.

    {"format": 1, "run", "history", "stopped", "server", "scalars", "clients", "tuned", "slot"}

They have neither checksums nor a whole identity: what they tell is compared, and what they hold is
checked as that of any other.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..history import Row
from .container import Damaged
from .contents import Contents

if TYPE_CHECKING:
    from ..simulation import Simulation

MAGIC = b"PK\x03\x04"  # of the archive that torch writes; safetensors begin with a length


def claims(path: Path) -> bool:
    """Whether the file is an archive of torch."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(path: Path) -> Contents:
    """The contents, as format 2 has them. Raises Damaged naming the file."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or found.get("format") != 1:
            got = found.get("format") if isinstance(found, dict) else type(found).__name__
            raise Damaged(f"expected a saved simulation of format 1, found {got}")
        return _contents(found)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
        raise Damaged(f"{path}: not a saved simulation, or a damaged one: {error}") from error
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise Damaged(f"{path}: not a saved simulation: {error!r}") from error


def differences(sim: Simulation, found: Contents) -> list[str]:
    """`name OURS, found SAVED` of what such a state tells of its run."""
    assert found.run is not None
    data = sim._engine.data
    ours = {
        "dtype": str(sim.dtype),
        "clients": f"{data.num_clients} with {int(data.sizes.sum())} samples",
        "algorithm": repr(sim.algorithm).replace(", keep_models=False", "").replace(", v0=None", ""),
        "seed": str(sim._engine.local.seed),
        "weights": str(sim.layout.parameters),
    }
    was = found.run
    return [f"{k} {v}, found {was.get(k)}" for k, v in ours.items() if was.get(k) != v]


def _contents(found: dict[str, Any]) -> Contents:
    clients, server = found["clients"], found["server"]
    tensors = {f"server {name}": t for name, t in server.items()}
    tensors |= _clients(clients)
    if found["tuned"] is not None:
        slot = found["slot"]
        ids = (slot >= 0).nonzero()[:, 0]
        tensors |= {"tuned ids": ids, "tuned rows": found["tuned"][slot[ids]]}
    rows = tuple(Row(*cells) for cells in found["history"])
    about = found["stopped"], dict(found["scalars"]), tensors
    return Contents(None, None, rows, *about, run=dict(found["run"]))


def _clients(clients: dict[str, Any]) -> dict[str, Tensor]:
    """Rows by place, and values of everybody, as those of clients by number."""
    slot, rows, values = clients["slot"], clients["rows"], clients["values"]
    ids = (slot >= 0).nonzero()[:, 0]
    if not rows and values:  # who has taken part is not told
        ids = torch.arange(len(slot))
    at = slot[ids]
    if rows and len(ids) and sorted(at.tolist()) != list(range(len(ids))):
        raise Damaged("its table of clients' rows points to the same row twice, or to none")
    made = {"clients ids": ids}
    made |= {f"clients row {name}": t[at] for name, t in rows.items()}
    return made | {f"clients value {name}": t[ids] for name, t in values.items()}
