"""Square roots whose bits do not depend on the processor."""

import numpy as np
import torch
from torch import Tensor


def square_root(x: Tensor) -> Tensor:
    """The elementwise square root, correctly rounded (IEEE 754). Any shape and device.

    On the CPU not `Tensor.sqrt`: torch leaves it to MKL, whose last bit differs between processors
    of unlike makers.
    """
    if x.device.type != "cpu":
        return x.sqrt()
    with np.errstate(invalid="ignore"):  # nan of a negative number, as torch has it
        return torch.from_numpy(np.asarray(np.sqrt(x.detach().numpy())))
