"""Layer programs: a traced module whose layers run for K clients at once, without autograd."""

from .executor import ProgramExecutor
from .program import Program
from .trace import explain, trace
from .workspace import bytes_per_client, scratch_bytes

__all__ = ["Program", "ProgramExecutor", "bytes_per_client", "explain", "scratch_bytes", "trace"]
