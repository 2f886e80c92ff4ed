"""A classifier over a Gaussian representation, for algorithms that train its noise (FedCR)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from .._messages import check_options, unknown
from ._sizes import size
from .conv import cnn, lenet
from .dense import mlp
from .registry import MODELS
from .resnet import resnet18_gn

BODIES: dict[str, Callable[..., nn.Module]] = {
    "cnn": cnn,
    "lenet": lenet,
    "mlp": mlp,
    "resnet18-gn": resnet18_gn,
}


class Stochastic(nn.Module):
    """`head(mu)` with `mu` the first half of the encoder's outputs; the other half is its spread.

    encoder  inputs [B, ...] -> [B, 2 dimZ]
    head     Linear(dimZ, classes) with bias
    Without noise it is an ordinary classifier: what other algorithms train, and what is evaluated.
    """

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of the mean representation."""
        return self.head(self.encoder(x)[:, : self.head.in_features])


@MODELS.register("stochastic")
def stochastic(
    input_shape: Sequence[int], classes: int, body: str = "mlp", dimZ: int = 256, **options: object
) -> Stochastic:
    """object model of linear or convolutional layers as encoder of dimZ means and spreads.

    body  "mlp", "cnn", "lenet" or "resnet18-gn"; `options` are those of its function
    FedCR's own: lenet with channels (4, 12) for Fashion-MNIST, (64, 64) for CIFAR, hidden
    (1024, 1024); dimZ 256, 512 for CIFAR-100.
    """
    if not isinstance(body, str) or body not in BODIES:
        raise unknown("body", body, BODIES)
    size("dimZ", dimZ)
    check_options(body, BODIES[body], options, own=("input_shape", "classes"))
    return Stochastic(BODIES[body](input_shape, 2 * dimZ, **options), nn.Linear(dimZ, classes))
