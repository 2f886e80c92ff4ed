"""Loggers of other programs, each imported when it begins: TensorBoard, W&B, MLflow."""

from .base import Logger
from .mlflow import MLflow
from .tensorboard import TensorBoard
from .wandb import WandB

__all__ = ["Logger", "MLflow", "TensorBoard", "WandB"]
