"""Layer programs: a traced module whose layers run for K clients at once, without autograd."""

from .path import Fold, ProgramPath, Sharp, bytes_per_client
from .trace import Program, explain, trace

__all__ = ["Fold", "Program", "ProgramPath", "Sharp", "bytes_per_client", "explain", "trace"]
