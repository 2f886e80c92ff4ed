"""Layer programs: a traced module whose layers run for K clients at once, without autograd."""

from .clip import Bound
from .context import Fold
from .executor import ProgramPath
from .step_executor import Sharp
from .trace import Program, explain, trace
from .workspace import bytes_per_client

__all__ = [
    "Bound",
    "Fold",
    "Program",
    "ProgramPath",
    "Sharp",
    "bytes_per_client",
    "explain",
    "trace",
]
