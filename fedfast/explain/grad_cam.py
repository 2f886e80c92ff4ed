"""Grad-CAM of a module: which places of an image speak for a class.

    map = relu(sum_c mean_xy(d z_y / d A_c) A_c)

A are the activations of a layer `[C, H, W]`, z_y the logit of class y (Selvaraju et al. 2017,
"Grad-CAM", equations 1 and 2). Computed by captum's `LayerGradCam`.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn

from .._messages import unknown
from ..copies import copy_of


def grad_cam(module: nn.Module, x: Tensor, classes: Tensor, layer: str | None = None) -> Tensor:
    """Maps `[n, H, W]` of the inputs' size, >= 0, bilinearly interpolated.

    module   in evaluation mode here, whatever mode it is in; it is copied
    x        `[n, C, H, W]`, inputs
    classes  `[n]`, whose logits
    layer    a module's name; None: the last convolution
    Raises ModuleNotFoundError naming the extra where captum is not installed, ValueError for a
    layer that is not there or has no places, and for modules without convolutions.
    """
    attribution = _captum()
    if x.ndim != 4:
        raise ValueError(f"x: expected images [n, C, H, W]; got {list(x.shape)}")
    net = copy_of(module).eval()
    name = last_convolution(net) if layer is None else layer
    named = dict(net.named_modules())
    if name not in named:
        raise unknown("layer", name, [key for key in named if key])
    with torch.enable_grad():
        cam = attribution.LayerGradCam(net, named[name])
        found = cam.attribute(x, target=classes, relu_attributions=True)
    if not isinstance(found, Tensor) or found.ndim != 4:
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"layer: expected one with outputs [n, C, H, W]; {name} has maps {shape}")
    maps = attribution.LayerAttribution.interpolate(found.detach(), tuple(x.shape[2:]), "bilinear")
    return maps[:, 0]


def has_convolutions(module: nn.Module) -> bool:
    """Whether there is one that Grad-CAM takes by default."""
    return any(isinstance(part, nn.Conv2d) for part in module.modules())


def last_convolution(module: nn.Module) -> str:
    """The name of the last one. Raises ValueError where there is none."""
    names = [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d)]
    if not names:
        raise ValueError("layer: expected a model with convolutions; got one without")
    return names[-1]


def _captum() -> ModuleType:
    try:
        from captum import attr
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Grad-CAM needs captum: pip install 'fedfast[explain]'"
        ) from error
    found: ModuleType = attr
    return found
