"""Two convolutions, each with ReLU and 2 x 2 max pooling, then linear layers.

paper                      built by                                              input
FedAvg (McMahan)           cnn()                                                 1 x 28 x 28
FedSOL                     cnn()                                                 3 x 32 x 32
PA4 SimpleCNN              cnn(channels=(16, 32), kernel=3, hidden=(500,))       1 x 28 x 28
FedGloSS, FL-Simulator     lenet()                                               3 x 32 x 32
FedFSA Fashion-MNIST       lenet(channels=(4, 12), hidden=(1024, 1024))          1 x 28 x 28
FedFSA CIFAR               lenet(hidden=(1024, 1024))                            3 x 32 x 32
FedFSA Tiny ImageNet       lenet(channels=(32, 32), hidden=(512, 1024))          3 x 64 x 64
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from ._sizes import check_weights, size, sizes
from .dense import dense
from .registry import MODELS


@MODELS.register("cnn")
def cnn(
    input_shape: Sequence[int],
    classes: int,
    channels: tuple[int, int] = (32, 64),
    kernel: int = 5,
    hidden: Sequence[int] = (512,),
) -> nn.Sequential:
    """FedAvg's CNN, padded so that convolutions keep the size: `[B, C, H, W]` -> `[B, classes]`.

    1,663,370 parameters on 1 x 28 x 28 with 10 classes. Raises ValueError for smaller than 4 x 4.
    Source: McMahan et al. 2017, section 3.
    """
    if size("kernel", kernel) % 2 == 0:
        raise ValueError(f"kernel: expected an odd size, to keep the image's; got {kernel}")
    return _two_convolutions("cnn", input_shape, classes, channels, kernel, kernel // 2, hidden)


@MODELS.register("lenet")
def lenet(
    input_shape: Sequence[int],
    classes: int,
    channels: tuple[int, int] = (64, 64),
    kernel: int = 5,
    hidden: Sequence[int] = (384, 192),
) -> nn.Sequential:
    """LeNet-like, convolutions without padding: `[B, C, H, W]` -> `[B, classes]`.

    797,962 parameters on 3 x 32 x 32 with 10 classes. Raises ValueError for smaller than 16 x 16.
    Source: FedSAM (Caldarola et al. 2022), FedGloSS (2025) and FL-Simulator's "LeNet".
    """
    return _two_convolutions("lenet", input_shape, classes, channels, kernel, 0, hidden)


def _two_convolutions(
    name: str,
    input_shape: Sequence[int],
    classes: int,
    channels: tuple[int, int],
    kernel: int,
    padding: int,
    hidden: Sequence[int],
) -> nn.Sequential:
    size("kernel", kernel)
    inputs, height, width = _image(name, input_shape, kernel - 1 - 2 * padding)
    first, second = sizes("channels", channels, 2)
    hidden = sizes("hidden", hidden)
    check_weights("channels", first, inputs * kernel**2)
    check_weights("channels", second, first * kernel**2)
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(inputs, first, kernel, padding=padding),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(first, second, kernel, padding=padding),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
    )
    layers.update(dense((second * height * width, *hidden, classes)))
    return nn.Sequential(layers)


def _image(name: str, input_shape: Sequence[int], loss: int) -> tuple[int, int, int]:
    """(channels, height, width) with the size left after both convolutions, each losing `loss`."""
    if len(input_shape) != 3:
        raise ValueError(f"input_shape: {name} expects (C, H, W); got {tuple(input_shape)}")
    channels, height, width = input_shape
    smallest = 4 + 3 * loss
    if min(height, width) < smallest:
        raise ValueError(
            f"input_shape: {name} expects at least {smallest} x {smallest} pixels; "
            f"got {height} x {width}"
        )
    return channels, ((height - loss) // 2 - loss) // 2, ((width - loss) // 2 - loss) // 2
