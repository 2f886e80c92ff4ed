"""Square roots whose bits do not depend on the processor: those that operations have too."""

from .kernels._square_root import square_root as square_root
