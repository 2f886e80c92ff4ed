"""What a configuration makes: data, clients, model, and one simulation per algorithm."""

from __future__ import annotations

import gc
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..own_modules import USER, refused

__all__ = ["USER", "Setting", "deal", "prepare", "simulation"]

if TYPE_CHECKING:
    from torch import nn

    from ..config import RunConfig
    from ..config.sections import DataSection
    from ..data import Data, FederatedData
    from ..memory import MemoryPlan
    from ..simulation import Simulation

WORTH_COLLECTING = 1 << 26  # bytes of simulations that may still be held
_made: list[MemoryPlan] = []  # since the last collection


@dataclass(frozen=True)
class Setting:
    """What all algorithms of a run share."""

    model: nn.Module
    clients: FederatedData
    data: Data

    def __str__(self) -> str:
        test = "no" if self.data.test is None else f"{len(self.data.test):,}"
        sizes = f"{len(self.data.train):,} train + {test} test samples"
        weights = sum(parameter.numel() for parameter in self.model.parameters())
        return f"{self.data.name}, {sizes}, {self.clients.num_clients} clients, {weights:,} weights"


def prepare(config: RunConfig) -> Setting:
    """Data, clients and initial model. Raises what their makers raise for bad values."""
    from .. import models

    found, clients = deal(config)
    with refused("model"):
        model = models.build(
            config.model.name,
            input_shape=tuple(found.train.x.shape[1:]),
            classes=found.classes,
            seed=config.seed,
            **config.model.options(),
        )
    return Setting(model, clients, found)


def deal(config: RunConfig) -> tuple[Data, FederatedData]:
    """The data, and what of them each client holds; raises as `prepare` does."""
    from .. import data

    with refused("data"):
        found = _protocol(
            data.load(config.data.name, config.data.root, **config.data.options()), config.data
        )
    with refused("partition"):
        clients = data.partition(config.partition.name, found.train, **config.partition_options())
        if config.local_test is not None:
            clients = data.local_split(clients, config.local_test, config.seed)
    return found, clients


def _protocol(found: Data, section: DataSection) -> Data:
    """Which samples are dealt to clients, and which are the global test set."""
    if section.pool:
        return replace(found, train=found.pooled(), test=None)
    return found if section.holdout is None else found.hold_out(section.holdout)


def simulation(
    config: RunConfig, setting: Setting, label: str, folder: Path | None = None
) -> Simulation:
    """The simulation of one label: nothing but the algorithm differs between labels.

    folder  for clients' rows where they do not fit into memory
    """
    import torch
    import torch.distributed

    from .. import algorithms, named_losses
    from ..run_options import RunOptions
    from ..simulation import Simulation

    _free_those_before()
    section = config.algorithms[label]
    options = config.model_dump(include={f.name for f in fields(RunOptions)})
    if isinstance(options["lr"], dict):
        options["lr"] = algorithms.schedule(options["lr"])
    if options["client_rows_folder"] is None and folder is not None:
        options["client_rows_folder"] = str(folder)
    ranks = (
        "all" if torch.distributed.is_available() and torch.distributed.is_initialized() else None
    )
    files = ["clients_csv"] if config.client_metrics else []
    with refused(""):
        made = Simulation(
            setting.model,
            setting.clients,
            algorithm=algorithms.by_name(section.name, **section.options()),
            test=setting.data.test,
            dtype=getattr(torch, config.dtype),
            loss=named_losses.loss(config.loss.name, **config.loss.options()),
            metric=config.metric,
            metrics=config.metrics,
            callbacks=[*config.callbacks, *config.loggers, *files],
            ranks=ranks,
            **options,
        )
    _made.append(made.memory)
    return made


def _free_those_before() -> None:
    """Rows and buffers of simulations are parts of cycles, which would hold them still.

    A collection walks through all objects, tenths of a second: small ones are not worth it.
    """
    if sum(plan.fixed + plan.chunk * plan.each for plan in _made) > WORTH_COLLECTING:
        _made.clear()
        gc.collect()
