"""What follows a run: functions, loggers, early stopping, the best model; a user's own by name."""

from .base import CALLBACKS, HOOKS, Callback, Given, RunInfo, call, callback, find, following
from .best_model import KeepBest
from .early_stopping import EarlyStopping

__all__ = [
    "CALLBACKS",
    "HOOKS",
    "Callback",
    "EarlyStopping",
    "Given",
    "KeepBest",
    "RunInfo",
    "call",
    "callback",
    "find",
    "following",
]
