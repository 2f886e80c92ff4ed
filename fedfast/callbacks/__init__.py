"""What follows a run: functions, loggers, early stopping, the best model; a user's own by name."""

from .base import CALLBACKS, HOOKS, Callback, Given, RunInfo, call, callback, find, following
from .best_model import KeepBest
from .clients_file import ClientsFile
from .early_stopping import EarlyStopping
from .loggers import Logger, MLflow, TensorBoard, WandB

__all__ = [
    "CALLBACKS",
    "HOOKS",
    "Callback",
    "ClientsFile",
    "EarlyStopping",
    "Given",
    "KeepBest",
    "Logger",
    "MLflow",
    "RunInfo",
    "TensorBoard",
    "WandB",
    "call",
    "callback",
    "find",
    "following",
]
