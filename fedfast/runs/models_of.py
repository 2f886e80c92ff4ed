"""The models of a run, finished or stopped: the global one, and clients' after local training.

run = fedfast.open_run("runs/quickstart", "fedsam")
run.model()                 # an nn.Module with the global model's weights
run.local_models([0, 3])    # as the run's next round would train them
run.local_rows([0, 3])      # the same as rows [2, S] of one tensor
"""

from __future__ import annotations

from pathlib import Path

from .. import checkpoint
from .. import config as configs
from .._messages import path_of
from ..config import RunConfig
from . import kept_model
from .reading import holds_run, state_of
from .run_models import RunModels


def open_run(path: str | Path, label: str | None = None) -> RunModels:
    """One label of the run in a folder: its state, or the global model where that alone was kept.

    label  None: its only one
    Raises ValueError where there is no run, no such label, several, or no model was kept.
    """
    from ..cli.setting import prepare, simulation

    folder, config = path_of("path", path), config_of(path)
    labels = list(config.algorithms)
    if label is None and len(labels) > 1:
        raise ValueError(f"label: expected one of {', '.join(labels)}")
    if label is not None and label not in labels:
        raise ValueError(f"label: expected one of {', '.join(labels)}; got {label!r}")
    label = label or labels[0]
    state = state_of(folder, label)
    model_only = not checkpoint.exists(state)
    if model_only and not kept_model.path_in(folder, label).is_file():
        raise ValueError(f"{folder}: kept neither a state nor a model of {label}")
    going_on = config.model_copy(update={"rounds": config.rounds + 1})
    found = simulation(going_on, prepare(config), label)
    if model_only:
        kept_model.load(folder, label, found)
    else:
        found._load(state, True)
    return RunModels(folder, label, config, found, model_only)


def config_of(path: str | Path) -> RunConfig:
    """The config of the run in a folder. Raises ValueError where there is none."""
    folder = path_of("path", path)
    if not holds_run(folder):
        raise ValueError(f"{folder}: expected a run folder, found no run")
    return configs.load_kept(folder / "config.yaml")
