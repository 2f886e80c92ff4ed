"""What models know and where they look: accuracy per class, and Grad-CAM through captum."""

from .class_accuracy import ClassAccuracy, class_accuracy
from .grad_cam import grad_cam, has_convolutions, last_convolution

__all__ = ["ClassAccuracy", "class_accuracy", "grad_cam", "has_convolutions", "last_convolution"]
