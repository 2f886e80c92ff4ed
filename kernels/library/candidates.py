"""Libraries' products that may take the place of a Triton kernel, each under a name.

    cudnn-5        torch's convolution of 5 clients in 5 times the groups: cuDNN's, or torch's own
                   where a group has one channel
    cudnn-5-last   the same, channels last
    cublas-10      batched products of 10 clients; of convolutions, their unfolded images

A library chooses its algorithm by the whole shape that it is asked for, so by K too. It is always
asked for the same number of clients here, a *block*: K clients are K / 5 blocks of 5, the last one
filled up with zeros. So one shape and one alignment of operands come to the library whatever K is.
That a client's bits do not depend on its place in a block, or on who else is there, is the
library's doing: the table of choices (`kernels/choices.py`) has no row that was not tried for it.

Cost: K = 1 takes what a block takes. Clients' images are copied side by side and back (not in
blocks of one client), windows are copied by `cublas`, a gradient is written before it is folded
into its sink. Workspace: copies of one block.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCKS = (1, 5, 10)
CONVOLUTIONS = frozenset({"conv", "conv_backward", "conv_pool", "conv_pool_backward"})
DENSE = frozenset({"linear", "linear_backward"})


@dataclass(frozen=True)
class Candidate:
    """One way to form products.

    library   "cudnn" or "cublas"
    clients   of a block
    last      whether images have their channels last
    """

    library: str
    clients: int
    last: bool = False

    @property
    def name(self) -> str:
        """As `backend=` and the table spell it."""
        return f"{self.library}-{self.clients}{'-last' if self.last else ''}"

    @property
    def operations(self) -> frozenset[str]:
        """Names of the operations it has."""
        return CONVOLUTIONS if self.library == "cudnn" else CONVOLUTIONS | DENSE


_ALL = [Candidate("cudnn", size, last) for size in BLOCKS for last in (False, True)]
_ALL += [Candidate("cublas", size) for size in BLOCKS]
CANDIDATES = {candidate.name: candidate for candidate in _ALL}
