"""Flower apps on fedfast: whole rounds of a `ServerApp`'s messages answered at once.

    declare(app, model=Net, data=load_data)          # in client_app.py: what `train` does
    grid = FastGrid(grid, client_app, context)       # in server_app.py's main, under `flwr run`
    run_simulation(server_app, client_app, 100)      # in a script: no Ray

docs/flower.md says what is declared, what is checked, and what falls back.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("flwr") is None:
    raise ImportError(
        "fedfast.integrations.flower: expected the package flwr, found none: "
        'pip install "fedfast[flower]"'
    )

from .declaration import Training, declare
from .fast_grid import FastGrid
from .simulation import run_simulation

__all__ = ["FastGrid", "Training", "declare", "run_simulation"]
