"""How far a round's clients agree: columns of the history, and the registry of one's own."""

from . import shipped
from .round_metrics import ROUND_METRICS, RoundMetric, measures, round_metrics
from .seen_round import SeenRound

__all__ = [
    "ROUND_METRICS",
    "RoundMetric",
    "SeenRound",
    "measures",
    "round_metrics",
    "shipped",
]
