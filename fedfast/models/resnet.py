"""ResNet-18 for small images, with batch or group normalisation.

paper                         built by                                   input
FL-Simulator, FedWMSAM        resnet18_gn(stem="imagenet")               3 x 32 x 32
Wu and He's own choice        resnet18_gn(groups=32)
FedFSA                        resnet18()                                 3 x 32 x 32

Sources: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (18 layers, the 7 x 7
stem of table 1, and the 3 x 3 stem without pooling of section 4.2); Wu and He, "Group
Normalization", ECCV 2018; Hsieh et al., "The Non-IID Data Quagmire of Decentralized Machine
Learning", ICML 2020, for why federations take it: it keeps no running statistics.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from .._messages import unknown
from .norms import Norm, norm_of
from .registry import MODELS

WIDTHS = (64, 128, 256, 512)
STEMS = {"cifar": (3, 1), "imagenet": (7, 2)}  # kernel and stride; what strides also pools


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


@MODELS.register("resnet18-gn")
def resnet18_gn(
    input_shape: Sequence[int], classes: int, groups: int = 2, stem: str = "cifar"
) -> nn.Sequential:
    """ResNet-18 with GroupNorm: `[B, C, H, W]` -> `[B, classes]`, any size.

    groups  of every GroupNorm, a divisor of 64
    stem    "cifar": 3 x 3; "imagenet": 7 x 7 with stride 2, then 3 x 3 max pooling with stride 2,
            which FL-Simulator keeps for 32 x 32 pixels: a sixteenth of the positions
    11,173,962 parameters on 3 x 32 x 32 with 10 classes; 11,181,642 with the other stem.
    """
    norm = norm_of("group", groups, WIDTHS[0])
    return _resnet18("resnet18-gn", input_shape, classes, norm, stem)


@MODELS.register("resnet18")
def resnet18(input_shape: Sequence[int], classes: int) -> nn.Sequential:
    """ResNet-18 with BatchNorm and a 3 x 3 stem: `[B, C, H, W]` -> `[B, classes]`, any size.

    11,173,962 parameters on 3 x 32 x 32 with 10 classes; running statistics beside them.
    """
    return _resnet18("resnet18", input_shape, classes, nn.BatchNorm2d)


def _stem(stem: str, channels: int, norm: Norm) -> OrderedDict[str, nn.Module]:
    if not isinstance(stem, str) or stem not in STEMS:
        raise unknown("stem", stem, STEMS)
    kernel, stride = STEMS[stem]
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(channels, WIDTHS[0], kernel, stride, kernel // 2, bias=False),
        norm1=norm(WIDTHS[0]),
        relu1=nn.ReLU(),
    )
    if stride > 1:
        layers.update(pool1=nn.MaxPool2d(3, stride, padding=1))
    return layers


def _resnet18(
    name: str, input_shape: Sequence[int], classes: int, norm: Norm, stem: str = "cifar"
) -> nn.Sequential:
    if len(input_shape) != 3:
        raise ValueError(f"input_shape: {name} expects (C, H, W); got {tuple(input_shape)}")
    layers = _stem(stem, input_shape[0], norm)
    inputs = WIDTHS[0]
    for i, width in enumerate(WIDTHS, start=1):
        first = BasicBlock(inputs, width, 1 if i == 1 else 2, norm)
        layers[f"stage{i}"] = nn.Sequential(first, BasicBlock(width, width, 1, norm))
        inputs = width
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    layers["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)
