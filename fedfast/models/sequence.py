"""Next-character prediction.

Source: Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018 (Shakespeare): sequences of
80 characters, embedding 8, two LSTM layers of 256, the last step's state to all characters.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ._sizes import check_weights, size
from .registry import MODELS


class NextCharacter(nn.Module):
    """Tokens `[B, T]` int64 -> logits of the character after them, `[B, classes]`."""

    def __init__(
        self, vocabulary: int, classes: int, embedding: int, hidden: int, layers: int
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        out, _ = self.lstm(self.embedding(x))
        return self.fc(out[:, -1])


@MODELS.register("lstm")
def lstm(
    input_shape: Sequence[int],
    classes: int,
    vocabulary: int | None = None,
    embedding: int = 8,
    hidden: int = 256,
    layers: int = 2,
) -> NextCharacter:
    """LEAF's character model: tokens `[B, T]` -> `[B, classes]`.

    vocabulary  number of different tokens; the classes if None
    819,920 parameters with 80 classes.
    """
    if len(input_shape) != 1:
        raise ValueError(f"input_shape: lstm expects (T,) tokens; got {tuple(input_shape)}")
    given = {"embedding": embedding, "hidden": hidden, "layers": layers}
    for name, value in given.items():
        size(name, value)
    if vocabulary is not None:
        size("vocabulary", vocabulary)
    check_weights("embedding", vocabulary or classes, embedding)
    check_weights("hidden", 4 * hidden * layers, max(hidden, embedding))
    return NextCharacter(vocabulary or classes, classes, embedding, hidden, layers)
