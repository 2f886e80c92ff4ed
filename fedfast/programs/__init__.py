"""Layer programs: a traced module whose layers run for K clients at once, without autograd."""

from .path import Fold, ProgramPath, bytes_per_client
from .trace import Program, explain, trace

__all__ = ["Fold", "Program", "ProgramPath", "bytes_per_client", "explain", "trace"]
