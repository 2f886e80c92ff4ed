"""Sharpness-aware optimizers for one model in a training loop of your own, over fused operations.

    optimizer = fedfast.optim.SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1)

They are used as the class of that name that many projects carry a copy of: `first_step` and
`second_step`, or `step(closure)`. `fedfast.SAM` and its like are something else: the local
optimizer of a simulated client. docs/torch-ops.md has examples.
"""

from .asam import ASAM
from .sagm import SAGM
from .sam import SAM

__all__ = ["ASAM", "SAGM", "SAM"]
