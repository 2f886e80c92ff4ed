"""ResNet-18 for small images, with batch or group normalisation.

paper                         built by                   input
FedSpeed, FL-Simulator        resnet18_gn()              3 x 32 x 32
Wu and He's own choice        resnet18_gn(groups=32)
FedFSA                        resnet18()                 3 x 32 x 32

Sources: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (18 layers, and the
3 x 3 stem without pooling of section 4.2); Wu and He, "Group Normalization", ECCV 2018; Hsieh et
al., "The Non-IID Data Quagmire of Decentralized Machine Learning", ICML 2020, for why federations
take it: it keeps no running statistics.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from .norms import Norm, norm_of

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: `[B, inputs, H, W]` -> `[B, outputs, H/s, W/s]`."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        h = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


def resnet18_gn(input_shape: Sequence[int], classes: int, groups: int = 2) -> nn.Sequential:
    """ResNet-18 with GroupNorm and a 3 x 3 stem: `[B, C, H, W]` -> `[B, classes]`, any size.

    groups  of every GroupNorm, a divisor of 64
    11,173,962 parameters on 3 x 32 x 32 with 10 classes.
    """
    return _resnet18("resnet18-gn", input_shape, classes, norm_of("group", groups, WIDTHS[0]))


def resnet18(input_shape: Sequence[int], classes: int) -> nn.Sequential:
    """ResNet-18 with BatchNorm and a 3 x 3 stem: `[B, C, H, W]` -> `[B, classes]`, any size.

    11,173,962 parameters on 3 x 32 x 32 with 10 classes; running statistics beside them.
    """
    return _resnet18("resnet18", input_shape, classes, nn.BatchNorm2d)


def _resnet18(name: str, input_shape: Sequence[int], classes: int, norm: Norm) -> nn.Sequential:
    if len(input_shape) != 3:
        raise ValueError(f"input_shape: {name} expects (C, H, W); got {tuple(input_shape)}")
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(input_shape[0], WIDTHS[0], 3, padding=1, bias=False),
        norm1=norm(WIDTHS[0]),
        relu1=nn.ReLU(),
    )
    inputs = WIDTHS[0]
    for i, width in enumerate(WIDTHS, start=1):
        first = BasicBlock(inputs, width, 1 if i == 1 else 2, norm)
        layers[f"stage{i}"] = nn.Sequential(first, BasicBlock(width, width, 1, norm))
        inputs = width
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    layers["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)
