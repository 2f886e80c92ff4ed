"""MobileNetV2 for small images.

Sources: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table
2 with width 1.0; strides 1 in the stem and in the second stage, as is usual for 32 x 32 pixels.
Hsu et al., "Federated Visual Classification with Real-World Data Distribution", ECCV 2020, take it
with GroupNorm; so does FedGloSS, which does not print the number of groups.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from .norms import Norm, norm_of
from .registry import MODELS

# expansion, outputs, blocks, stride of the first
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, HEAD = 32, 1280
COMMON = 8  # divides every width


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project, beside a shortcut where sizes agree.

    `[B, inputs, H, W]` -> `[B, outputs, H/s, W/s]`
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, norm: Norm) -> None:
        super().__init__()
        wide = inputs * expansion
        layers = OrderedDict[str, nn.Module]()
        if expansion != 1:
            layers.update(expand=_filter(inputs, wide, norm, kernel=1))
        layers.update(filter=_filter(wide, wide, norm, stride=stride, groups=wide))
        layers.update(project=nn.Conv2d(wide, outputs, 1, bias=False), norm=norm(outputs))
        self.layers = nn.Sequential(layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


def _filter(
    inputs: int, outputs: int, norm: Norm, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, norm(outputs), nn.ReLU6())


@MODELS.register("mobilenetv2")
def mobilenetv2(
    input_shape: Sequence[int], classes: int, norm: str = "batch", groups: int = 8
) -> nn.Sequential:
    """MobileNetV2 of width 1.0 with a CIFAR stem: `[B, C, H, W]` -> `[B, classes]`, any size.

    norm    "batch" or "group"
    groups  of every GroupNorm, a divisor of 8
    2,236,682 parameters on 3 x 32 x 32 with 10 classes.
    """
    if len(input_shape) != 3:
        raise ValueError(f"input_shape: mobilenetv2 expects (C, H, W); got {tuple(input_shape)}")
    make = norm_of(norm, groups, COMMON)
    layers = OrderedDict[str, nn.Module](stem=_filter(input_shape[0], STEM, make))
    inputs = STEM
    for i, (expansion, outputs, blocks, stride) in enumerate(STAGES, start=1):
        for j in range(blocks):
            step = stride if j == 0 else 1
            layers[f"stage{i}_{j}"] = InvertedResidual(inputs, outputs, step, expansion, make)
            inputs = outputs
    layers.update(head=_filter(inputs, HEAD, make, kernel=1))
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(HEAD, classes))
    return nn.Sequential(layers)
