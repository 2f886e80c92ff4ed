"""Section `factors`, SAM around one dense layer: its gradient written, or kept as factors.

Both times stand beside what the model of `fedfast/programs/cuda_costs.py` predicts; as there, what
both forms do (the data gradient's products, activations) is left out of both. Sizes lie on both
sides of its threshold, which a wrong sign of `saved` refutes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from fedfast import kernels
from fedfast.programs.cuda_costs import H100, thin_factors, whole_gradient
from fedfast.programs.sam import is_thin
from gpu_sections.campaign import Campaign, normal
from gpu_sections.ceilings import scaled

PRECISIONS = "tf32x3", "tf32"  # the default, and the one with a third of its products
BATCHES = (10, 50, 200)


class Layer(NamedTuple):
    """A dense layer; `samples`: it reads the samples, the same in both passes."""

    inputs: int
    outputs: int
    samples: bool

    @property
    def name(self) -> str:
        """Its sides."""
        return f"{self.inputs} to {self.outputs}" + ", first" * self.samples


# Of the papers' MLPs and CNNs, and between them.
LAYERS = (
    Layer(784, 200, True),
    Layer(784, 62, True),
    Layer(512, 512, False),
    Layer(768, 512, False),
    Layer(3136, 512, False),
    Layer(384, 192, False),
)


class Both:
    """The same layer of K clients in both forms."""

    def __init__(
        self, campaign: Campaign, clients: int, batch: int, layer: Layer, precision: str
    ) -> None:
        self.layer, inputs, outputs = layer, layer.inputs, layer.outputs
        self.x, self.x2 = (normal(campaign, clients, batch, inputs) for _ in range(2))
        self.d, self.d2 = (normal(campaign, clients, batch, outputs) for _ in range(2))
        self.w = normal(campaign, clients, outputs, inputs)
        self.g, self.ahead = torch.zeros_like(self.w), torch.zeros_like(self.w)
        self.out, self.dx = torch.zeros_like(self.d), torch.zeros_like(self.x)
        self.gram = torch.zeros(clients, batch, batch, device=self.x.device)
        self.scale, self.how = normal(campaign, clients), dict(precision=precision)
        self.how |= dict(backend="triton")
        self.squares = torch.zeros(clients, dtype=torch.float64, device=self.x.device)

    def whole(self, _: int) -> None:
        """Gradient and its squares; `w + s g`; the product that factors leave out."""
        given = self.x, self.w, self.d, self.d
        kernels.linear_backward(*given, dweight=self.g, squares=self.squares, **self.how)
        rows = (t.flatten(1) for t in (self.w, self.g))
        kernels.mix(*rows, b=self.scale, out=self.ahead.flatten(1), backend="triton")
        if self.layer.samples:
            kernels.linear(self.x, self.ahead, activation="relu", out=self.out, **self.how)

    def factors(self, _: int) -> None:
        """The norm by Gram matrices; what the factors add to both passes."""
        kernels.ghost(self.x, self.d, ones=1.0, gram=self.gram, squares=self.squares, **self.how)
        new, known = (self.x, self.gram) if self.layer.samples else (self.x2, None)
        given, to = (new, self.x, self.d, self.scale), dict(base=self.out, out=self.out)
        kernels.lowrank(*given, ones=1.0, gram=known, activation="relu", **to, **self.how)
        if self.layer.samples:  # the first pass, which keeps what is before the activation
            kernels.activation(self.d, "relu", out=self.d2, backend="triton")
        else:
            given, to = (self.d2, self.d, self.x, self.scale), dict(base=self.dx, out=self.dx)
            kernels.lowrank(*given, **to, **self.how)


def run(campaign: Campaign) -> None:
    """All layers and batches; tiny ones in a rehearsal."""
    small = campaign.rehearsal
    for clients in sorted({campaign.pick(k, 2) for k in (10, 100)}):
        for layer in (Layer(5, 4, True), Layer(5, 4, False)) if small else LAYERS:
            for batch in (3,) if small else BATCHES:
                for precision in PRECISIONS:
                    _compare(campaign, clients, batch, layer, precision)


def _compare(campaign: Campaign, clients: int, batch: int, layer: Layer, precision: str) -> None:
    both = Both(campaign, clients, batch, layer, precision)
    subject = f"{layer.name}, B = {batch}, K = {clients}, {precision}"
    whole, factors = campaign.seconds(both.whole), campaign.seconds(both.factors)
    forms = [form(batch, *layer).under(precision) for form in (whole_gradient, thin_factors)]
    expected = [form.seconds(clients, H100) for form in forms]
    saved = None if whole is None or factors is None else whole - factors
    guess = expected[0] - expected[1] if campaign.timed else None
    campaign.row(subject, "written", scaled(whole, 1e-6), "us")
    campaign.row(subject, "factors", scaled(factors, 1e-6), "us")
    campaign.row(subject, "saved", scaled(saved, 1e-6), "us", headline=clients == 10)
    campaign.row(subject, "saved, predicted", scaled(guess, 1e-6), "us")
    chosen = is_thin(batch, *layer[:2], "cuda", precision, samples=layer.samples)
    campaign.row(subject, "chosen", "factors" if chosen else "written")
