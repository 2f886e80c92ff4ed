"""Forms of the layers, losses and sequences; see `operation_forms.py`."""

from __future__ import annotations

from typing import Any

import torch
from fedfast.kernels.activation import KINDS
from operation_inputs import Cases, Draw, Form
from torch import Tensor


def integers(high: str, letters: str, dtype: torch.dtype = torch.int64) -> Any:
    """Numbers below the size of a letter, or a number."""
    return lambda d: d.integers(d.shape(high)[0], *d.shape(letters), dtype=dtype)


def counts(least: int) -> Any:
    """`[K]` int32: of B samples all, half of them, as few as may be, and so on."""

    def make(draw: Draw) -> Tensor:
        batch = draw.sizes["B"]
        several = [batch, (batch + 1) // 2, min(least, batch)] * draw.clients
        return torch.tensor(several[: draw.clients], dtype=torch.int32)

    return make


def positive(letters: str) -> Any:
    return lambda draw: draw.laid_out(draw.vector(*draw.shape(letters)))


def inner(*sizes: int) -> Form:
    return dict(rest=sizes)


def layer(B: int, I: int, O: int) -> Form:  # noqa: E741, N803 (the letters of the declarations)
    return dict(B=B, I=I, O=O)


def gaussian(B: int, D: int, samples: int, C: int) -> Form:  # noqa: N803
    return dict(B=B, D=D, E=2 * D, R=B * samples, C=C)


PLAIN: Form = dict(alpha=1.0, beta=0.0)
ELEMENTS = dict(
    small=(inner(3, 31), inner(1023)),
    native=(inner(1), inner(2, 5, 33), inner(40, 129)),
    large=((5, inner(33, 301)), (1, inner(3000, 33))),
)
PRODUCTS = dict(
    small=(layer(1, 1, 1), layer(10, 20, 33), layer(70, 17, 36)),
    native=(
        *(layer(10, 784, 200), layer(64, 900, 33), layer(130, 17, 150)),
        *(layer(400, 40, 20), layer(50, 33, 513)),
    ),
    large=((5, layer(64, 900, 33)), (1, layer(130, 170, 150))),
)
ADDENDS = "add_weight add_bias"
ALONE = f"dx dbias squares base_weight base_bias {ADDENDS}"
BASES = "base_weight_ih base_weight_hh base_bias_ih base_bias_hh"
FACTORS = dict(
    small=(layer(1, 1, 1), layer(18, 33, 10)),
    native=(layer(10, 784, 20), layer(70, 17, 130), layer(50, 33, 10)),
    large=((5, layer(40, 150, 90)),),
)
ROWS = dict(
    small=(dict(B=1, C=1), dict(B=7, C=10), dict(B=5, C=700)),
    native=(dict(B=64, C=130), dict(B=33, C=257)),
    large=((4, dict(B=301, C=200)), (1, dict(B=301, C=200))),
)
GAUSSIANS = dict(
    small=(gaussian(1, 1, 1, 1), gaussian(7, 3, 5, 4), gaussian(5, 300, 2, 3)),
    native=(gaussian(33, 17, 4, 10),),
    large=((4, gaussian(60, 70, 15, 10)), (1, gaussian(60, 70, 15, 10))),
)


def priors(draw: Draw) -> Tensor:
    """Deviations [K, C, D]."""
    return draw.laid_out(draw.vector(*draw.shape("K C D")))


def some(draw: Draw) -> Tensor:
    """[K] of the operation's dtype: every second client."""
    return (torch.arange(draw.clients) % 2).to(draw.dtype)


SAMPLED: Form = dict(targets=integers("C", "K B"), count=counts(1), alpha=0.5, spread=priors)
WORDS: Form = dict(token=integers("V", "K ..."))
TOKENS = dict(
    small=(dict(V=1, E=1, rest=(1,)), dict(V=40, E=70, rest=(50,)), dict(V=7, E=33, rest=(3, 6))),
    native=(dict(V=5, E=8, rest=(2, 3, 4)),),
    large=((4, dict(V=90, E=40, rest=(60, 80))), (1, dict(V=90, E=40, rest=(60, 80)))),
)


def sequence(B: int, T: int, I: int, H: int) -> Form:  # noqa: E741, N803
    return dict(B=B, T=T, I=I, H=H, G=4 * H)


SEQUENCES = dict(
    small=(sequence(1, 1, 1, 1), sequence(17, 3, 5, 18)),
    native=(sequence(6, 6, 8, 33), sequence(20, 4, 64, 64), sequence(70, 4, 64, 64)),
    large=((4, sequence(7, 9, 40, 50)), (1, sequence(70, 4, 64, 64))),
)


def with_rest(sizes: Any) -> Any:
    """The same sizes for "K ... C"."""
    if isinstance(sizes, dict):
        return sizes | dict(rest=(sizes["B"],))
    return tuple(with_rest(s) if not isinstance(s, int) else s for s in sizes)


def wide(draw: Draw, columns: int) -> Tensor:
    """Float64 sums of squares."""
    return draw.numbers(draw.clients, columns).double().square()


def own_radii(draw: Draw) -> Tensor:
    """A float64 number of each client."""
    return wide(draw, 1)[:, 0].contiguous()


JOINED: Form = dict(
    known=lambda d: [wide(d, 3), wide(d, 5)[:, 1:3]], added=lambda d: [wide(d, 2)], ones=1.0
)
LAYERS: dict[str, Cases] = {
    "activation": Cases({kind: dict(kind=kind, slope=0.2) for kind in KINDS}, **ELEMENTS),
    "activation_backward": Cases({kind: dict(kind=kind, slope=0.2) for kind in KINDS}, **ELEMENTS),
    "dropout": Cases(
        {
            "elements": dict(p=0.3, layer=2, seeds=integers("2**62", "K")),
            "planes": dict(
                p=0.5,
                layer=2**32 - 1,
                seeds=integers("2**62", "K"),
                span=lambda d: d.sizes["rest"][-1],
            ),
        },
        **ELEMENTS,
    ),
    "linear": Cases(
        {
            "plain": dict(activation=None),
            "relu": dict(activation="relu"),
            "tanh, no bias": dict(activation="tanh", without="bias"),
        },
        **PRODUCTS,
    ),
    "linear_backward": Cases(
        {
            "folded": dict(activation="relu", without=ADDENDS),
            "corrected": dict(activation="relu", without="squares"),
            "gradients": PLAIN
            | dict(activation="tanh", without=f"squares base_weight base_bias {ADDENDS}"),
            "weight alone": PLAIN | dict(activation=None, without=ALONE),
            "input alone": PLAIN | dict(activation=None, without=f"{ALONE[3:]} dweight"),
        },
        **PRODUCTS,
    ),
    "ghost": Cases({"weight": dict(ones=0.0), "bias": dict(ones=1.0)}, **FACTORS),
    "joined": Cases(
        {
            "above": JOINED | dict(limit=0.5),
            "below": JOINED | dict(limit=1e6),
            "some": JOINED | dict(limit=3.0, known=lambda d: [wide(d, 3)]),
            "weight": JOINED | dict(limit=0.0, ones=0.0, without="add_bias"),
        },
        **FACTORS,
    ),
    "lowrank": Cases(
        {
            "plain": dict(ones=0.0, activation=None, without="gram"),
            "known": dict(ones=1.0, activation="tanh"),
            "relu": dict(ones=1.0, activation="relu", without="gram"),
        },
        **FACTORS,
    ),
    "reach": Cases(
        {
            "radius": dict(
                squares=lambda d: [wide(d, 3), wide(d, 5)[:, 1:3]],
                rho=0.3,
                eps=1e-3,
                without="radii",
            ),
            "clip": dict(
                squares=lambda d: [wide(d, 7)], rho=0.9, eps=1e-6, most=1.0, without="radii"
            ),
            "radii": dict(squares=lambda d: [wide(d, 3)], rho=0.0, eps=1e-3, radii=own_radii),
        },
        small=({},),
    ),
    "layer_reach": Cases(
        {
            "radii": dict(squares=lambda d: [wide(d, 3), wide(d, 5)[:, 1:3]], eps=1e-3),
            "clip": dict(squares=lambda d: [wide(d, 7)], eps=1e-6, limit=2.5),
        },
        small=(dict(L=1), dict(L=33), dict(L=130)),
    ),
    "cross_entropy": Cases({"ragged": dict(targets=integers("C", "K B"), count=counts(0))}, **ROWS),
    "kl_gradient": Cases({"ragged": dict(count=counts(0), temperature=3.0)}, **ROWS),
    "sample_gaussian": Cases(
        {"ragged": dict(targets=integers("9", "K B"), count=counts(0), alpha=0.5)}, **GAUSSIANS
    ),
    "sample_gaussian_backward": Cases(
        {
            "ragged": SAMPLED | dict(beta=0.3),
            "without a divergence": SAMPLED | dict(beta=0.0),
        },
        **GAUSSIANS,
    ),
    "sum_gaussians": Cases(
        {
            "all": dict(targets=integers("C", "K B"), count=counts(0), last=1.0, alpha=0.5),
            "some": dict(targets=integers("C", "K B"), count=counts(0), last=some, alpha=0.5),
        },
        **GAUSSIANS,
    ),
    "log_softmax": Cases({"rows": {}}, **{n: with_rest(s) for n, s in ROWS.items()}),
    "log_softmax_backward": Cases({"rows": {}}, **{n: with_rest(s) for n, s in ROWS.items()}),
    "embedding": Cases({"words": WORDS}, **TOKENS),
    "embedding_backward": Cases(
        {
            "folded": WORDS | dict(padding=None),
            "padded": WORDS | PLAIN | dict(padding=0, without="base_weight"),
        },
        **TOKENS,
    ),
    "lstm": Cases({"biases": {}, "none": dict(without="bias_ih bias_hh")}, **SEQUENCES),
    "lstm_backward": Cases(
        {
            "folded": {},
            "gradients": PLAIN | dict(without=f"dx dbias_ih dbias_hh {BASES}"),
        },
        **SEQUENCES,
    ),
}
