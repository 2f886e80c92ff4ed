"""fedfast: sharpness-aware federated learning, simulated many clients at once.

>>> import fedfast
>>> data = fedfast.data.load("digits")
>>> clients = fedfast.data.dirichlet(data.train, clients=50, alpha=0.3, seed=0)
>>> model = fedfast.models.build("mlp", input_shape=(1, 8, 8), classes=10)
>>> sim = fedfast.Simulation(model, clients, "fedsam", test=data.test, rounds=2)
>>> len(sim.run(progress=False))
2

Names are loaded when first used, so that the command line answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from . import _renamed_modules
from ._version import __version__ as __version__

if TYPE_CHECKING:
    from . import (
        algorithms,
        data,
        explain,
        kernels,
        landscape,
        loggers,
        metrics,
        models,
        optim,
        torch_ops,
    )
    from .algorithms import ASAM, SAM, SGD
    from .averaging import aggregate
    from .client_sampling import Schedule
    from .cohort import Cohort
    from .cohort_update import CohortUpdate
    from .comparison import Comparison, compare
    from .data import FederatedData
    from .ensemble import Ensemble
    from .history import History, Row
    from .layout import FlatLayout
    from .runs.models_of import open_run
    from .simulation import Simulation

_renamed_modules.install()

_HOME = {
    "ASAM": "algorithms",
    "Cohort": "cohort",
    "CohortUpdate": "cohort_update",
    "Comparison": "comparison",
    "SAM": "algorithms",
    "SGD": "algorithms",
    "Ensemble": "ensemble",
    "FederatedData": "data",
    "FlatLayout": "layout",
    "History": "history",
    "Row": "history",
    "Schedule": "client_sampling",
    "Simulation": "simulation",
    "aggregate": "averaging",
    "compare": "comparison",
    "open_run": "runs.models_of",
}
_MODULES = (
    *("algorithms", "data", "explain", "kernels", "landscape", "loggers", "metrics", "models"),
    *("optim", "torch_ops"),
)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'fedfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_MODULES, *_HOME, "__version__"])


__all__ = [
    "ASAM",
    "Cohort",
    "CohortUpdate",
    "Comparison",
    "Ensemble",
    "SAM",
    "SGD",
    "FederatedData",
    "FlatLayout",
    "History",
    "Row",
    "Schedule",
    "Simulation",
    "aggregate",
    "algorithms",
    "compare",
    "data",
    "explain",
    "kernels",
    "landscape",
    "loggers",
    "metrics",
    "models",
    "open_run",
    "optim",
    "torch_ops",
]
