"""Layer programs: a traced module whose layers run for K clients at once, without autograd."""

from .clip import ClipBound
from .context import Fold
from .executor import ProgramExecutor
from .program import Program
from .step_executor import SamStep
from .trace import explain, trace
from .workspace import bytes_per_client

__all__ = [
    "ClipBound",
    "Fold",
    "Program",
    "ProgramExecutor",
    "SamStep",
    "bytes_per_client",
    "explain",
    "trace",
]
