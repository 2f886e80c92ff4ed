"""Loggers, for `callbacks=[...]`: CSV files of clients, TensorBoard, Weights & Biases, MLflow.

    Simulation(..., callbacks=[fedfast.loggers.TensorBoard("runs/tb")])

A user's own extends `Logger`. None of the packages is imported before a run begins.
"""

from .callbacks import ClientsFile, Logger, MLflow, TensorBoard, WandB

__all__ = ["ClientsFile", "Logger", "MLflow", "TensorBoard", "WandB"]
