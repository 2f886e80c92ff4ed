"""Layer programs: a traced module whose layers run for K clients at once, without autograd."""

from .clip import Bound
from .passes import Sharp
from .path import ProgramPath
from .room import bytes_per_client
from .tape import Fold
from .trace import Program, explain, trace

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
