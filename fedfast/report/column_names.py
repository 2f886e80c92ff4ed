"""What axes call the columns of a history."""

from __future__ import annotations

NAMES = {
    "accuracy": "test accuracy",
    "local_accuracy": "local accuracy",
    "personal_accuracy": "personal accuracy",
    "loss": "test loss",
    "train_loss": "training loss",
}
# Columns of metrics that come with fedfast; one's own are called as they are.
MEASURED = {
    "cosine_global": "client–mean cosine",
    "cosine_pairs": "client–client cosine",
    "conflicts": "conflicting pairs (share)",
    "conflicts_tensors": "conflicts by tensor (share)",
    "conflicts_after": "conflicts left (share)",
    "conflicts_tensors_after": "left by tensor (share)",
    "delta_eps": "perturbation error",
    "delta_eps_cosine": "update cosine",
    "model_norm": "parameter norm",
    "drift_global": "squared drift from global",
    "drift_mean": "squared drift from mean",
    "momentum_cosine": "momentum cosine",
}
ACCURACIES = frozenset(name for name in NAMES if name.endswith("accuracy"))


def name_of(column: str) -> str:
    """What an axis calls a column."""
    return NAMES.get(column) or MEASURED.get(column, column)


def axis_text(column: str) -> str:
    """The same with its unit."""
    return f"{name_of(column)}{' (%)' if column in ACCURACIES else ''}"
