"""`run_simulation`: Flower's function of this name, without Ray."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.config import get_fused_config_from_dir
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from .declaration import Training
from .fast_grid import FastGrid
from .local_grid import LocalGrid

RUN_ID = 1


def run_simulation(
    server_app: ServerApp,
    client_app: ClientApp,
    num_supernodes: int,
    backend_name: str = "fedfast",
    backend_config: Mapping[str, object] | None = None,
    enable_tf_gpu_growth: bool = False,
    verbose_logging: bool = False,
    *,
    training: Training | None = None,
    run_config: Mapping[str, object] | None = None,
    app_dir: str | Path | None = None,
) -> None:
    """Run a ServerApp whose nodes train together, in this process.

    server_app, client_app, num_supernodes, verbose_logging
                  as in flwr.simulation.run_simulation
    backend_name, backend_config, enable_tf_gpu_growth
                  accepted and of no effect: there is no backend
    training      in place of what was declared of `client_app`
    run_config    of the contexts, by flat keys ("local-epochs"); `{}` as in Flower's function
    app_dir       an app's directory; `run_config` overrides [tool.flwr.app.config] of its
                  pyproject.toml

    Raises TypeError/ValueError naming the argument, and whatever the ServerApp raises.
    """
    if not isinstance(server_app, ServerApp):
        raise TypeError(f"server_app: expected a ServerApp; got {server_app!r}")
    if (
        isinstance(num_supernodes, bool)
        or not isinstance(num_supernodes, int)
        or num_supernodes < 1
    ):
        raise ValueError(f"num_supernodes: expected at least 1; got {num_supernodes!r}")
    if verbose_logging:
        logging.getLogger("flwr").setLevel(logging.DEBUG)
    config = dict(run_config or {})
    if app_dir is not None:
        config = dict(get_fused_config_from_dir(Path(app_dir), config))  # type: ignore[arg-type]
    _identify()
    context = Context(RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), config)  # type: ignore[arg-type]
    nodes = LocalGrid(client_app, num_supernodes, Run.create_empty(RUN_ID), config)
    server_app(grid=FastGrid(nodes, client_app, context, training), context=context)


def _identify() -> None:
    """What messages made in this process say of where they come from."""
    TaskIdentity.task_id, TaskIdentity.run_id = 1, RUN_ID
    TaskIdentity.node_id = SUPERLINK_NODE_ID
